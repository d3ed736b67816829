"""Linear directions against loops, fits and closed forms."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from vae_jax.config import ConfigError
from vae_jax.latents import directions, nonlinear_directions

RNG = np.random.RandomState(0)
NAMES = ("Smiling", "Eyeglasses", "Bald")


def images(count):
  return RNG.randint(0, 256, (count, 2, 3, 1)).astype(np.uint8)


def estimate(codes, labels, names=NAMES, pictures=None):
  pictures = images(len(codes)) if pictures is None else pictures
  about = {"images": np.array_split(pictures, 3), "split": "train", "step": 7}
  return directions.estimate(codes.astype(np.float32), labels, names, **about)


def correlated_labels(count):
  """Bits of which the second goes with the first two times in three."""
  first = RNG.rand(count) < 0.4
  second = np.where(RNG.rand(count) < 2 / 3, first, RNG.rand(count) < 0.5)
  return np.stack([first, second, RNG.rand(count) < 0.2], 1).astype(np.uint8)


def test_mean_and_pixels_are_differences_of_means():
  codes, labels, pictures = RNG.randn(90, 4), correlated_labels(90), images(90)
  linear = estimate(codes, labels, pictures=pictures)
  for a, name in enumerate(NAMES):
    inside = [i for i in range(90) if labels[i, a]]
    outside = [i for i in range(90) if not labels[i, a]]
    for values, estimated in (
      (codes, linear.vector(name, "mean")),
      (pictures.astype(float), linear.pixel_difference(name)),
    ):
      wanted = values[inside].mean(0) - values[outside].mean(0)
      assert_allclose(estimated, wanted, rtol=1e-5, atol=1e-5)
    assert linear.positives[a] == len(inside)


def test_balanced_holds_the_other_attributes_equal():
  labels = correlated_labels(500)
  effects = RNG.randn(3, 4)
  codes = labels @ effects + 0.5
  linear = estimate(codes, labels)
  balanced = [linear.vector(name, "balanced") for name in NAMES]
  assert_allclose(balanced, effects, atol=1e-5)
  # The plain difference mixes the second attribute's effect into the first's.
  mixed = linear.vector("Smiling", "mean") - effects[0]
  assert np.abs(mixed).max() > 0.2


def test_balanced_of_one_attribute_is_the_mean_difference():
  labels = correlated_labels(80)[:, :1]
  linear = estimate(RNG.randn(80, 4), labels, ("Smiling",))
  balanced, mean = (linear.vector("Smiling", k) for k in ("balanced", "mean"))
  assert_allclose(balanced, mean, atol=1e-6)


def test_balanced_weighs_classes_equally():
  codes = RNG.randn(60, 4)
  labels = np.repeat([0, 1, 2], [10, 45, 5]).astype(np.int32)
  linear = estimate(codes, labels, ("a", "b", "c"))
  a, b, c = (codes[labels == k].mean(0) for k in range(3))
  for kind, other in (("balanced", (b + c) / 2), ("mean", codes[10:].mean(0))):
    assert_allclose(linear.vector("a", kind), a - other, atol=1e-6)


def test_class_without_images_is_ignored():
  codes, labels = RNG.randn(20, 4), np.repeat([0, 2], 10).astype(np.int32)
  linear = estimate(codes, labels, ("a", "b", "c"))
  wanted = codes[:10].mean(0) - codes[10:].mean(0)
  assert_allclose(linear.vector("a", "balanced"), wanted, atol=1e-6)
  with pytest.raises(ConfigError, match="0 of 20 images .* attribute b"):
    linear.vector("b", "balanced")


def test_probe_is_the_normal_of_the_boundary_with_mean_distance():
  # Of two Gaussians of one covariance the log-odds are linear, with weights
  # covariance^-1 (m1 - m0).
  covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
  apart = np.array([1.5, 0.0])
  hit = RNG.rand(40_000) < 0.3
  noise = stats.multivariate_normal(cov=covariance).rvs(40_000, RNG)
  codes = noise + hit[:, None] * apart
  linear = estimate(codes, hit[:, None].astype(np.uint8), ("Smiling",))
  probe, mean = (linear.vector("Smiling", k) for k in ("probe", "mean"))
  weights = np.linalg.solve(covariance, apart)
  cosine = probe @ weights / np.linalg.norm(probe) / np.linalg.norm(weights)
  assert cosine > 0.999
  # A step of 1 moves the probe's score as far as the means lie apart.
  assert_allclose(probe @ probe, probe @ mean, rtol=1e-4)
  distance = np.sqrt(apart @ weights)
  assert_allclose(linear.accuracy[0], stats.norm.cdf(distance / 2), atol=0.01)


def test_correlation_equals_numpy():
  labels = correlated_labels(200)
  linear = estimate(RNG.randn(200, 2), labels)
  assert_allclose(linear.correlation, np.corrcoef(labels.T))


def test_attribute_of_all_images_has_no_direction():
  labels = correlated_labels(50)
  labels[:, 2] = 1
  linear = estimate(RNG.randn(50, 4), labels)
  for kind in directions.KINDS:
    with pytest.raises(ConfigError, match="50 of 50 images .* Bald"):
      linear.vector("Bald", kind)
  with pytest.raises(ConfigError, match="no direction to it"):
    linear.pixel_difference("Bald")
  assert np.isfinite(linear.vector("Smiling", "balanced")).all()
  assert_array_equal(linear.correlation[2], 0)


def test_unknown_names_are_refused():
  linear = estimate(RNG.randn(50, 4), correlated_labels(50))
  for name, kind, message in (
    ("Smilng", "mean", "'Smilng'; did you mean Smiling"),
    ("xyz", "mean", "there are: Smiling, Eyeglasses"),
    ("Smiling", "median", "'median'.*mean"),
  ):
    with pytest.raises(ConfigError, match=message):
      linear.vector(name, kind)


def test_saved_directions_are_read_back_with_same_bytes(tmp_path):
  linear = estimate(RNG.randn(50, 4), correlated_labels(50))
  directions.save(linear, tmp_path / "a.npz")
  read = directions.load(tmp_path / "a.npz")
  for field in dataclasses.fields(linear):
    assert_array_equal(getattr(read, field.name), getattr(linear, field.name))
  directions.save(read, tmp_path / "b.npz")
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("kind", [directions, nonlinear_directions])
def test_foreign_files_are_named(kind, tmp_path):
  path = tmp_path / "a.npz"
  for content, words in (
    (
      {"names": np.array([{}], dtype=object)},
      "it holds a pickle, which is nev",
    ),
    ({"other": np.zeros(3)}, "KeyError: 'names'"),
  ):
    np.savez(path, **content)
    with pytest.raises(ConfigError) as caught:
      kind.load(path)
    start = f"{path} is damaged, or of another kind ({words}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("; --mode=attributes makes it again.")
