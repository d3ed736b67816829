"""How far apart two sets of images are, measured between their features.

NumPy in float64: each number is the same on any device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Features = Float[np.ndarray, "n f"]
Others = Float[np.ndarray, "m f"]

# Fewest images on either side: `kernel_distance` takes 10 subsets of 2.
FEWEST = 20
_SUBSETS = 10
# Rows of a block of pairwise distances, which takes 32 MiB.
_ROWS = 2048


class Gaussian(NamedTuple):
  """A normal distribution over features.

  Attributes:
    mean: [f].
    cov: [f f].
  """

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

  With Inception's features it is the FID. It shrinks with the number of
  images it is estimated from: compare equal numbers only.

  References:
    Dowson and Landau, 1982; Heusel et al., arXiv 1706.08500, equation 6.
  """
  # tr (C_p C_q)^(1/2) is the sum of the singular values of C_p^(1/2) C_q^(1/2).
  # Eigenvalues of C_p C_q would do too, but only their roots: 1e-16 where a
  # singular covariance has 0 would count as 1e-8.
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

  It may be negative. All pairs are in memory at once.

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
  the number of images nor on the size of the subsets. These are disjoint,
  for the standard error of overlapping ones would be too small; there are at
  least ten of them, of fewer images where there are less than ten thousand.

  Args:
    x: features of one set.
    y: features of the other; where both have one length, row i may be made
      from row i of x.
    seed: of the choice of subsets.
    subset_size: images of a subset on each side, at most.

  Raises:
    ValueError: one set has fewer than 20 rows.

  References:
    Binkowski et al., arXiv 1801.01401, section 4.
  """
  count = min(len(x), len(y))
  if count < FEWEST:
    raise ValueError(
      f"A kernel distance needs at least {FEWEST} rows of features on either "
      f"side, got {len(x)} and {len(y)}."
    )
  size = min(subset_size, count // _SUBSETS)

  def subsets(features: Features) -> np.ndarray:
    # RandomState's stream is frozen by NumPy's compatibility policy.
    order = np.random.RandomState(seed).permutation(len(features))
    return order[: count // size * size].reshape(-1, size)

  # One place further, no image meets its own reconstruction: the estimate is
  # unbiased for independent images alone.
  pairs = zip(subsets(x), np.roll(subsets(y), 1, axis=0), strict=True)
  values = np.array([squared_mmd(x[i], y[j]) for i, j in pairs])
  error = values.std(ddof=1) / np.sqrt(len(values))
  return float(values.mean()), float(error)


def precision_recall(
  reference: Features, samples: Others, *, k: int = 3
) -> tuple[float, float]:
  """Returns the shares of samples and of reference images that are covered.

  A set covers what lies in a ball around one of its rows, as large as the
  distance to that row's k-th nearest other row. Precision is the share of
  samples that the reference covers, recall the share of the reference that
  the samples cover.

  Args:
    reference: features of real images.
    samples: features of made ones.
    k: neighbour whose distance is the radius.

  Raises:
    ValueError: one set has no k-th neighbour.

  References:
    Kynkaanniemi et al., arXiv 1904.06991, equations 1 and 2.
  """
  if min(len(reference), len(samples)) <= k:
    raise ValueError(
      f"Precision and recall with k={k} need at least {k + 1} rows of "
      f"features, got {len(reference)} and {len(samples)}."
    )
  # Near their mean the squares of the features cancel least.
  mean = reference.mean(axis=0, dtype=np.float64)
  reference_radii = _squared_radii(reference, k, mean)
  sample_radii = _squared_radii(samples, k, mean)
  good: Bool[np.ndarray, " n"] = np.zeros(len(samples), bool)
  found: Bool[np.ndarray, " n"] = np.zeros(len(reference), bool)
  for i, made in _blocks(samples):
    for j, real in _blocks(reference):
      squared = _squared_distances(made - mean, real - mean)
      good[i] |= (squared <= reference_radii[j]).any(axis=1)
      found[j] |= (squared <= sample_radii[i, None]).any(axis=0)
  return float(good.mean()), float(found.mean())


def _squared_radii(x: Features, k: int, mean: np.ndarray) -> np.ndarray:
  radii = np.empty(len(x))
  for i, rows in _blocks(x):
    nearest = np.empty((len(rows), 0))
    for _, others in _blocks(x):
      squared = _squared_distances(rows - mean, others - mean)
      # A row's own distance, 0, is one of the k + 1.
      nearest = np.concatenate([nearest, squared], axis=1)
      kept = min(k, nearest.shape[1] - 1)
      nearest = np.partition(nearest, kept, axis=1)[:, : k + 1]
    radii[i] = nearest.max(axis=1)
  return radii


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  sizes = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
  squared = sizes - 2 * (x @ y.T)
  # Rounding must not tell equal rows apart, whose radius is 0.
  squared[squared < 1e-12 * sizes] = 0
  return squared


def nearest(x: Features, y: Others) -> Float[np.ndarray, " n"]:
  """Returns the Euclidean distance of each row of x to the nearest row of y."""
  mean = y.mean(axis=0, dtype=np.float64)
  squared = np.full(len(x), np.inf)
  for i, rows in _blocks(x):
    for _, others in _blocks(y):
      found = _squared_distances(rows - mean, others - mean).min(axis=1)
      squared[i] = np.minimum(squared[i], found)
  return np.sqrt(squared)


def nearest_other(x: Features) -> Float[np.ndarray, " n"]:
  """Returns the Euclidean distance of each row to the nearest other row.

  Raises:
    ValueError: there is no other row.
  """
  if len(x) < 2:
    raise ValueError(f"There is no other row among {len(x)}.")
  return np.sqrt(_squared_radii(x, 1, x.mean(axis=0, dtype=np.float64)))
