"""Distances between two sets of images, in the space of some features.

They are computed by NumPy in float64 and so do not depend on the device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "n f"]
Others = Float[np.ndarray, "m f"]

# Images of each set: `kernel_distance` needs 10 subsets of 2.
MIN_IMAGES = 20
_SUBSETS = 10
# A block of pairwise distances takes 32 MiB.
_ROWS = 2048


class Gaussian(NamedTuple):
  """Mean and covariance of a normal distribution over features."""

  mean: Float[np.ndarray, " f"]
  cov: Float[np.ndarray, "f f"]


def _blocks(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  for begin in range(0, len(x), _ROWS):
    rows = slice(begin, begin + _ROWS)
    yield rows, x[rows].astype(np.float64)


def gaussian(features: Features) -> Gaussian:
  """Returns the mean and the unbiased covariance (divisor n - 1).

  Raises:
    ValueError: there are fewer than two rows.
  """
  if len(features) < 2:
    raise ValueError(
      f"A covariance needs at least 2 rows of features, got {len(features)}."
    )
  mean = features.mean(axis=0, dtype=np.float64)
  cov = np.zeros((len(mean), len(mean)))
  for _, block in _blocks(features):
    cov += (block - mean).T @ (block - mean)
  return Gaussian(mean, cov / (len(features) - 1))


def frechet(p: Gaussian, q: Gaussian) -> float:
  """Returns the squared Frechet distance of two normal distributions.

    |m_p - m_q|^2 + tr(C_p + C_q - 2 (C_p C_q)^(1/2))

  With Inception's features it is the FID. The estimate decreases with the
  number of images, so that only equal numbers of images are comparable.

  References:
    Dowson and Landau, 1982; Heusel et al., arXiv 1706.08500, equation 6.
  """
  # tr (C_p C_q)^(1/2) is the sum of the singular values of C_p^(1/2) C_q^(1/2).
  # It is also that of the roots of the eigenvalues of C_p C_q, but a rounding
  # error of 1e-16 in an eigenvalue 0 would count as 1e-8.
  overlap = np.linalg.norm(_root(p.cov) @ _root(q.cov), "nuc")
  squared = np.sum((p.mean - q.mean) ** 2) + np.trace(p.cov + q.cov)
  return max(float(squared - 2 * overlap), 0.0)


def _root(cov: Float[np.ndarray, "f f"]) -> Float[np.ndarray, "f f"]:
  values, vectors = np.linalg.eigh(cov)
  return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def squared_mmd(x: Features, y: Others) -> float:
  """Returns the unbiased estimate of the squared maximum mean discrepancy.

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j)
      - 2 mean_{i, j} k(x_i, y_j),    k(x, y) = (x . y / f + 1)^3

  It may be negative. The memory is quadratic in the number of rows.

  References:
    Gretton et al., 2012 (JMLR 13), equation 3; the kernel: Binkowski et al.,
    arXiv 1801.01401, section 4.
  """
  x, y = x.astype(np.float64), y.astype(np.float64)

  def within(a: np.ndarray) -> float:
    kernel = _cubic(a, a)
    return (kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1))

  return float(within(x) + within(y) - 2 * _cubic(x, y).mean())


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
  x: Features, y: Others, *, seed: int, subset_size: int = 1000
) -> tuple[float, float]:
  """Returns the mean of `squared_mmd` over subsets, and its standard error.

  With Inception's features it is the KID. Its expectation depends neither on
  the number of images nor on the size of the subsets. The subsets are disjoint,
  because the standard error of overlapping ones would be too small. There are
  at least ten of them, smaller ones if there are fewer than ten thousand rows.

  Args:
    x, y: features; row i of y may be a function of row i of x if both have
      equal lengths.
    seed: of the choice of subsets.
    subset_size: largest number of rows of a subset of each set.

  Raises:
    ValueError: one set has fewer than 20 rows.

  References:
    Binkowski et al., arXiv 1801.01401, section 4.
  """
  count = min(len(x), len(y))
  if count < MIN_IMAGES:
    raise ValueError(
      f"A kernel distance needs at least {MIN_IMAGES} rows of features on "
      f"either side, got {len(x)} and {len(y)}."
    )
  size = min(subset_size, count // _SUBSETS)

  def subsets(features: Features) -> np.ndarray:
    # Not Generator, whose stream may change between versions of NumPy.
    order = np.random.RandomState(seed).permutation(len(features))
    return order[: count // size * size].reshape(-1, size)

  # Shifted by one, so that no image is compared with its own reconstruction,
  # because the estimate is unbiased for independent images only.
  pairs = zip(subsets(x), np.roll(subsets(y), 1, axis=0), strict=True)
  values = np.array([squared_mmd(x[i], y[j]) for i, j in pairs])
  error = values.std(ddof=1) / np.sqrt(len(values))
  return float(values.mean()), float(error)


def precision_recall(
  reference: Features, samples: Others, *, k: int = 3
) -> tuple[float, float]:
  """Returns the shares of samples and of reference images that are covered.

  A set covers the balls around its rows, whose radius is the distance to the
  k-th nearest other row. Precision is the share of samples covered by the
  reference; recall is the share of the reference covered by the samples.

  Raises:
    ValueError: one set has no k-th neighbor.

  References:
    Kynkaanniemi et al., arXiv 1904.06991, equations 1 and 2.
  """
  if min(len(reference), len(samples)) <= k:
    raise ValueError(
      f"Precision and recall with k={k} need at least {k + 1} rows of "
      f"features, got {len(reference)} and {len(samples)}."
    )
  # Centered, because the squares then lose least in their differences.
  mean = reference.mean(axis=0, dtype=np.float64)
  reference_radii = _squared_radii(reference, k, mean)
  sample_radii = _squared_radii(samples, k, mean)
  precise = np.zeros(len(samples), bool)
  recalled = np.zeros(len(reference), bool)
  for i, generated in _blocks(samples):
    for j, real in _blocks(reference):
      squared = _squared_distances(generated - mean, real - mean)
      precise[i] |= (squared <= reference_radii[j]).any(axis=1)
      recalled[j] |= (squared <= sample_radii[i, None]).any(axis=0)
  return float(precise.mean()), float(recalled.mean())


def _squared_radii(x: Features, k: int, mean: np.ndarray) -> np.ndarray:
  radii = np.empty(len(x))
  for i, rows in _blocks(x):
    nearest = np.empty((len(rows), 0))
    for _, others in _blocks(x):
      squared = _squared_distances(rows - mean, others - mean)
      # k + 1, because the distance to the row itself, 0, is one of them.
      nearest = np.concatenate([nearest, squared], axis=1)
      last = min(k, nearest.shape[1] - 1)
      nearest = np.partition(nearest, last, axis=1)[:, : k + 1]
    radii[i] = nearest.max(axis=1)
  return radii


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  sizes = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
  squared = sizes - 2 * (x @ y.T)
  # Equal rows have distance 0 despite rounding, because their radius is 0.
  squared[squared < 1e-12 * sizes] = 0
  return squared


def nearest(x: Features, y: Others) -> Float[np.ndarray, " n"]:
  """Returns the Euclidean distance of each row of x to the nearest row of y."""
  mean = y.mean(axis=0, dtype=np.float64)
  squared = np.full(len(x), np.inf)
  for i, rows in _blocks(x):
    for _, others in _blocks(y):
      smallest = _squared_distances(rows - mean, others - mean).min(axis=1)
      squared[i] = np.minimum(squared[i], smallest)
  return np.sqrt(squared)


def nearest_other(x: Features) -> Float[np.ndarray, " n"]:
  """Returns the Euclidean distance of each row to the nearest other row.

  Raises:
    ValueError: there is no other row.
  """
  if len(x) < 2:
    raise ValueError(f"A nearest other row needs 2 rows, got {len(x)}.")
  return np.sqrt(_squared_radii(x, 1, x.mean(axis=0, dtype=np.float64)))
