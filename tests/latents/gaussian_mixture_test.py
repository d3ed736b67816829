"""The mixture that is fitted to codes, against its source and closed forms."""

import warnings

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import mixture

from vae_jax.latents import gaussian_mixture


def _codes(count=600, seed=0):
  """Three clusters in the plane, and their labels."""
  rng = np.random.default_rng(seed)
  label = rng.choice(3, count, p=[0.5, 0.3, 0.2])
  centers = np.array([[0, 0], [5, 1], [-3, 4]])
  shapes = np.array(
    [[[1, 0], [0.8, 0.3]], [[0.2, 0], [0, 1]], [[1, 0], [0, 1]]]
  )
  noise = rng.normal(size=(count, 2, 1))
  codes = centers[label] + (shapes[label] @ noise)[..., 0]
  return codes.astype(np.float32), label


def _log_prob(arrays, codes):
  density = gaussian_mixture.build(arrays)
  return np.asarray(jax.jit(density.log_prob)(codes))


def test_density_is_the_one_that_scikit_learn_fits():
  codes, _ = _codes()
  arrays, report = gaussian_mixture.fit(codes, seed=0, components=3)
  center, scale = codes.mean(0, dtype=float), codes.std(0, dtype=float)
  own = mixture.GaussianMixture(
    3, reg_covar=gaussian_mixture.FLOOR, random_state=0
  ).fit((codes - center) / scale)
  expected = own.score_samples((codes - center) / scale) - np.log(scale).sum()
  assert_allclose(_log_prob(arrays, codes), expected, rtol=1e-4, atol=2e-4)
  assert report["converged"] and report["components"] == 3
  # Of the last iteration but one.
  assert report["log_likelihood"][-1] == pytest.approx(
    expected.mean(), abs=2e-3
  )


def test_likelihood_never_falls():
  codes, _ = _codes()
  _, report = gaussian_mixture.fit(codes, seed=1, components=5)
  steps = np.diff(report["log_likelihood"])
  assert len(steps) >= 4 and (steps > -1e-9).all()
  assert report["iterations"] == len(report["log_likelihood"])


def test_clusters_are_found():
  codes, label = _codes()
  arrays, _ = gaussian_mixture.fit(codes, seed=0, components=3)
  order = np.argsort(-arrays["logits"])
  for i, k in enumerate(order):
    own = codes[label == i]
    assert_allclose(arrays["mean"][k], own.mean(0), atol=0.1)
    covariance = arrays["scale_tril"][k] @ arrays["scale_tril"][k].T
    assert_allclose(covariance, np.cov(own.T), atol=0.1)


def test_one_component_has_the_moments_of_the_codes():
  codes, _ = _codes()
  arrays, _ = gaussian_mixture.fit(codes, seed=0, components=1)
  assert_allclose(arrays["mean"][0], codes.mean(0), rtol=1e-5)
  covariance = arrays["scale_tril"][0] @ arrays["scale_tril"][0].T
  assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-4)


def test_unit_of_the_codes_does_not_matter():
  codes, _ = _codes()
  arrays, _ = gaussian_mixture.fit(codes, seed=0, components=3)
  scaled, _ = gaussian_mixture.fit(codes * 2**-20, seed=0, components=3)
  assert_allclose(
    _log_prob(scaled, codes * 2**-20),
    _log_prob(arrays, codes) + 2 * 20 * np.log(2),
    rtol=1e-5,
  )


def test_codes_without_variance_have_a_density_and_no_warning():
  codes, _ = _codes(40)
  codes = np.concatenate([codes, codes[:, :1], np.full((40, 1), 7.0)], axis=1)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    arrays, _ = gaussian_mixture.fit(np.float32(codes), seed=0, components=2)
    keys = jax.random.split(jax.random.key(0), 100)
    draw = jax.jit(lambda key: gaussian_mixture.build(arrays).sample(key))
    draws = np.asarray(draw(keys))
  assert np.isfinite(_log_prob(arrays, codes)).all()
  assert_allclose(draws[:, 3], 7, atol=0.01)
  assert_allclose(draws[:, 2], draws[:, 0], atol=0.02)


def test_same_seed_gives_the_same_bits():
  codes, _ = _codes()
  one, other = (
    gaussian_mixture.fit(codes, seed=3, components=4)[0] for _ in range(2)
  )
  for name, values in one.items():
    assert_array_equal(values, other[name])


def test_few_codes_have_few_components():
  assert gaussian_mixture.components(16_000, 96) == 10
  assert gaussian_mixture.components(64, 3) == 10
  assert gaussian_mixture.components(59, 3) == 9
  assert gaussian_mixture.components(5, 3) == 1
