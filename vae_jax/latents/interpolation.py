"""Paths between two codes: the line, and the arc around the origin.

A path returns the code a exactly at t = 0, and b at t = 1.
"""

import numpy as np
from jaxtyping import Float, Float32, Integer

# Sine of the angle between two codes below which they span no plane.
_SMALL_SINE = 1e-6


def linear(
  a: Float[np.ndarray, " d"],
  b: Float[np.ndarray, " d"],
  t: Float[np.ndarray, " k"],
) -> Float32[np.ndarray, "k d"]:
  """Returns codes on the line from a to b: (1 - t) a + t b."""
  return _weighted(a, b, 1 - t, t)


def spherical(
  a: Float[np.ndarray, " d"],
  b: Float[np.ndarray, " d"],
  t: Float[np.ndarray, " k"],
) -> Float32[np.ndarray, "k d"]:
  """Returns codes on the arc from a to b around the origin (slerp).

  sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, w the angle between a and b.
  Codes of equal length keep it; otherwise the length changes from one to the
  other. Where w is 0 or pi, or a code is 0, the arc does not exist or is not
  unique, and the codes are those of `linear`.

  References:
    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985;
    White, arXiv 1609.04468, section 2.1.
  """
  lengths = [np.linalg.norm(v.astype(np.float64)) for v in (a, b)]
  if min(lengths) == 0:
    return linear(a, b, t)
  one, other = a / lengths[0], b / lengths[1]
  # Exact for small angles too, where an arccosine loses all digits.
  angle = 2 * np.arctan2(
    np.linalg.norm(one - other), np.linalg.norm(one + other)
  )
  if np.sin(angle) < _SMALL_SINE:
    return linear(a, b, t)
  t = t.astype(np.float64)
  first, last = np.sin((1 - t) * angle), np.sin(t * angle)
  return _weighted(a, b, first / np.sin(angle), last / np.sin(angle))


def between(
  a: Float[np.ndarray, "n d"],
  b: Float[np.ndarray, "n d"],
  t: Float[np.ndarray, " k"],
  kind: str,
) -> Float32[np.ndarray, "n k d"]:
  """Returns the codes of a kind of path from each a to its b."""
  codes = np.empty((len(a), len(t), a.shape[1]), np.float32)
  for row, one, other in zip(codes, a, b, strict=True):
    row[:] = KINDS[kind](one, other, t)
  return codes


def nearer(
  a: Integer[np.ndarray, "n ..."],
  b: Integer[np.ndarray, "n ..."],
  t: Float[np.ndarray, " k"],
) -> Integer[np.ndarray, "n k ..."]:
  """Returns the label of the nearer end at each t, of a at 1/2."""
  return np.stack([a, b], axis=1)[:, (t > 0.5).astype(int)]


def _weighted(
  a: np.ndarray, b: np.ndarray, first: np.ndarray, last: np.ndarray
) -> Float32[np.ndarray, "k d"]:
  codes = np.outer(first, a.astype(np.float64))
  codes += np.outer(last, b.astype(np.float64))
  return codes.astype(np.float32)


KINDS = {"linear": linear, "spherical": spherical}
