"""Mixtures with full covariances and densities by class, against scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from tests.support.linear_gaussian_vae import jit
from vae_jax import distributions

KEYS = jax.random.split(jax.random.key(3), 20_000)


def _mixture(dim=3, count=4, seed=0):
  rng = np.random.default_rng(seed)
  scale = np.tril(rng.normal(size=(count, dim, dim)))
  for s in scale:
    np.fill_diagonal(s, rng.uniform(0.2, 1.5, dim))
  arrays = {
    "mean": rng.normal(size=(count, dim)),
    "scale_tril": scale,
    "logits": rng.normal(size=count),
  }
  return {k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()}


def _build(arrays):
  return distributions.FullNormalMixture(**arrays)


def _scipy(arrays, z):
  """Returns the log density, by scipy."""
  arrays = {k: np.float64(v) for k, v in arrays.items()}
  weights = scipy.special.log_softmax(arrays["logits"])
  each = [
    w + scipy.stats.multivariate_normal(m, s @ s.T).logpdf(z)
    for w, m, s in zip(
      weights, arrays["mean"], arrays["scale_tril"], strict=True
    )
  ]
  return scipy.special.logsumexp(each, axis=0)


def test_log_density_of_a_mixture_is_that_of_scipy():
  arrays = _mixture()
  z = np.float32(3 * np.random.default_rng(1).normal(size=(50, 3)))
  value = jit(lambda a, z: _build(a).log_prob(z))(arrays, z)
  assert_allclose(value, _scipy(arrays, z), rtol=2e-5, atol=1e-4)


def test_components_without_weight_have_no_part():
  arrays = _mixture(count=2)
  only = jax.tree.map(lambda v: v[:1], arrays)
  arrays["logits"] = jnp.array([0.0, -jnp.inf])
  z = jnp.ones((4, 3))
  log_prob = jit(lambda a: _build(a).log_prob(z))
  assert_allclose(log_prob(arrays), log_prob(only), rtol=1e-6)
  draws = jit(lambda a: _build(a).sample(KEYS[:50], 0.0))(arrays)
  assert_array_equal(draws, np.tile(only["mean"], (50, 1)))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_have_moments_scaled_by_temperature(temperature):
  """Weights and means stay, the deviations within components are scaled."""
  arrays = _mixture(dim=2, count=3)
  z = jit(lambda a, k: _build(a).sample(k, temperature))(arrays, KEYS)
  weights = scipy.special.softmax(np.float64(arrays["logits"]))
  means, scale = (np.float64(arrays[k]) for k in ("mean", "scale_tril"))
  within = temperature**2 * np.einsum("kij,klj->kil", scale, scale)
  center = weights @ means
  outer = np.einsum("k,ki,kj->ij", weights, means - center, means - center)
  covariance = np.einsum("k,kij->ij", weights, within) + outer
  error = np.sqrt(np.diag(covariance) / len(KEYS))
  assert (np.abs(np.mean(z, 0) - center) < 4 * error).all()
  assert_allclose(np.cov(z.T), covariance, atol=0.05 * covariance.max())


def test_affine_density_is_that_of_a_normal():
  arrays = _mixture(count=1)
  mean, scale = arrays["mean"][0], arrays["scale_tril"][0]
  base = distributions.StandardNormal(3)
  density = distributions.Affine(base, mean, scale)
  z = jnp.float32(np.random.default_rng(1).normal(size=(20, 3)))
  assert_allclose(density.log_prob(z), _scipy(arrays, z), rtol=1e-5)
  e = base.sample(KEYS[:5])
  expected = np.asarray(e) @ np.asarray(scale).T * 2 + np.asarray(mean)
  assert_allclose(density.sample(KEYS[:5], 2.0), expected, rtol=1e-4, atol=1e-5)


def test_each_row_has_the_density_of_its_class():
  own = [_mixture(seed=s) for s in range(3)]
  arrays = jax.tree.map(lambda *v: jnp.stack(v), *own)
  label = jnp.array([2, 0, 1, 2])
  density = distributions.PerClass(arrays, label, _build)
  # Two draws for each of four images.
  z = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)
  values = jit(lambda d: (d.log_prob(z), d.sample(KEYS[:4], 0.5)))(density)
  labels = np.tile(label, 2)
  each = np.stack([_scipy(a, z) for a in own])
  assert_allclose(values[0], each[labels, np.arange(8)], rtol=1e-4, atol=1e-4)
  draws = np.stack([_build(a).sample(KEYS[:4], 0.5) for a in own])
  assert_allclose(values[1], draws[label, np.arange(4)], rtol=1e-5, atol=1e-6)


@functools.cache
def _grid(side=161, width=9.0):
  ticks = np.linspace(-width, width, side, dtype=np.float32)
  return np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)


def test_mixture_integrates_to_one():
  arrays = _mixture(dim=2)
  log_prob = jit(lambda a, z: _build(a).log_prob(z))(arrays, _grid())
  area = (18 / 160) ** 2
  total = np.exp(np.float64(log_prob)).sum() * area
  assert total == pytest.approx(1, abs=1e-3)
