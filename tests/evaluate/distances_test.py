"""Distances against closed forms, SciPy and brute force."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose, assert_array_equal

from vae_jax.evaluate import distances


def _normal(seed, *shape):
  return np.random.RandomState(seed).normal(size=shape)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  """Several blocks, the last one not full."""
  monkeypatch.setattr(distances, "_ROWS", 7)


def test_gaussian_is_numpys():
  x = _normal(0, 30, 4).astype(np.float32) + 100
  p = distances.gaussian(x)
  assert_allclose(p.mean, x.mean(0, dtype=np.float64))
  expected = np.cov(x.astype(np.float64), rowvar=False)
  assert_allclose(p.cov, expected, atol=1e-12)


def test_frechet_of_diagonal_gaussians():
  """sum (m - m')^2 + (s - s')^2."""
  means, scales = _normal(0, 2, 5), np.abs(_normal(1, 2, 5))
  p, q = (distances.Gaussian(means[i], np.diag(scales[i] ** 2)) for i in (0, 1))
  expected = np.sum(np.diff(means, axis=0) ** 2 + np.diff(scales, axis=0) ** 2)
  assert distances.frechet(p, q) == pytest.approx(expected, rel=1e-12)


def test_frechet_is_that_of_scipy():
  p = distances.gaussian(_normal(0, 50, 6) @ _normal(1, 6, 6))
  q = distances.gaussian(_normal(2, 40, 6) @ _normal(3, 6, 6) + 1)
  root = scipy.linalg.sqrtm(p.cov @ q.cov)
  expected = np.sum((p.mean - q.mean) ** 2)
  expected += np.trace(p.cov + q.cov - 2 * np.real(root))
  assert distances.frechet(p, q) == pytest.approx(expected, rel=1e-9)
  assert distances.frechet(q, p) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_fewer_images_than_features():
  """Against the singular values of X Y^T, which know no singular root."""
  x, y = _normal(0, 10, 40), 2 * _normal(1, 8, 40) + 1
  p, q = distances.gaussian(x), distances.gaussian(y)
  overlap = np.linalg.svd((x - p.mean) @ (y - q.mean).T, compute_uv=False)
  expected = np.sum((p.mean - q.mean) ** 2) + np.trace(p.cov + q.cov)
  expected -= 2 * overlap.sum() / np.sqrt(9 * 7)
  assert distances.frechet(p, q) == pytest.approx(expected, rel=1e-7)
  assert 0 <= distances.frechet(p, p) < 1e-6


def test_squared_mmd_is_the_double_loop():
  x, y = _normal(0, 6, 3), _normal(1, 5, 3) + 1

  def mean(pairs):
    return np.mean([(sum(a * b) / 3 + 1) ** 3 for a, b in pairs])

  expected = sum(mean(itertools.permutations(rows, 2)) for rows in (x, y))
  expected -= 2 * mean(itertools.product(x, y))
  assert distances.squared_mmd(x, y) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_uses_each_image_once(monkeypatch):
  seen = []
  count = lambda *pair: seen.append(pair) or len(seen)
  monkeypatch.setattr(distances, "squared_mmd", count)
  x = np.arange(45.0).reshape(45, 1)
  mean, error = distances.kernel_distance(x, x + 100, seed=0, subset_size=3)
  assert len(seen) == 15 and mean == 8
  assert error == pytest.approx(np.std(range(15), ddof=1) / np.sqrt(15))
  for side, offset in ((0, 0), (1, 100)):
    rows = np.concatenate([pair[side] for pair in seen]) - offset
    assert_array_equal(np.sort(rows, axis=0), x)
  # Row i of one set is never compared with row i of the other.
  assert not any(np.isin(a, b - 100).any() for a, b in seen)


def test_kernel_distance_of_equal_distributions_is_0_in_the_mean():
  draws = []
  for i in range(100):
    x, y = _normal(2 * i, 40, 3), _normal(2 * i + 1, 50, 3)
    draws.append(distances.kernel_distance(x, y, seed=i))
  values, errors = np.transpose(draws)
  assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
  # The standard error is what repeating it shows.
  assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.2)


def test_kernel_distance_of_images_and_themselves_is_not_biased():
  sets = enumerate(_normal(0, 100, 40, 3))
  values = [distances.kernel_distance(x, x, seed=i)[0] for i, x in sets]
  assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_seed_chooses_the_subsets():
  x, y = _normal(0, 60, 3), _normal(1, 60, 3)
  first = distances.kernel_distance(x, y, seed=0)
  assert distances.kernel_distance(x, y, seed=0) == first
  assert distances.kernel_distance(x, y, seed=1) != first


def test_precision_and_recall_of_known_sets():
  x = _normal(0, 30, 4).astype(np.float32)
  mode, far = _normal(0, 25, 2), (1000 + _normal(0, 20, 8)).astype(np.float32)
  both = np.concatenate([mode, mode + 50])
  for reference, samples, expected in (
    (x, x, (1, 1)),
    (x, x + 100, (0, 0)),
    # A lost mode costs recall alone.
    (both, mode, (1, 0.5)),
    (mode, both, (0.5, 1)),
    # Samples of one image cover only that image.
    (far, np.repeat(far[:1], 16, axis=0), (1, 1 / 20)),
  ):
    assert distances.precision_recall(reference, samples) == expected


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_those_of_brute_force(k):
  x, y = _normal(0, 40, 3), _normal(1, 33, 3) * 1.2 + 1

  def covered(points, rows):
    # The first distance of a row is that to itself.
    radii = [np.sort(np.linalg.norm(rows - row, axis=1))[k] for row in rows]
    inside = [np.linalg.norm(rows - point, axis=1) <= radii for point in points]
    return np.any(inside, axis=1).mean()

  expected = (covered(y, x), covered(x, y))
  assert 0 < min(expected) and max(expected) < 1
  assert distances.precision_recall(x, y, k=k) == pytest.approx(expected)


def test_too_few_rows_are_refused():
  x = np.zeros((3, 2))
  with pytest.raises(ValueError, match="at least 2 rows"):
    distances.gaussian(x[:1])
  with pytest.raises(ValueError, match="at least 20 rows.* got 3 and 3"):
    distances.kernel_distance(x, x, seed=0)
  with pytest.raises(ValueError, match="at least 4 rows"):
    distances.precision_recall(x, x)
