"""Latent distributions against scipy, integrals and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, special, stats

from vae_jax.distributions import (
  DiagonalNormal,
  Groups,
  NormalMixture,
  StandardNormal,
)

KEYS = jax.random.split(jax.random.key(0), 3)
MANY_KEYS = jax.random.split(jax.random.key(3), 20_000)


def _normal(seed: int) -> DiagonalNormal:
  values = np.random.default_rng(seed).normal(size=(2, 3, 4))
  return DiagonalNormal(*jnp.asarray(values, jnp.float32))


def test_normal_log_prob_is_scipys():
  q, z = _normal(0), _normal(1).mean
  scale = np.exp(0.5 * np.asarray(q.log_variance))
  expected = stats.norm.logpdf(z, q.mean, scale).sum(1)
  assert_allclose(q.log_prob(z), expected, rtol=1e-5)
  expected = stats.norm.logpdf(z).sum(1)
  assert_allclose(StandardNormal(4).log_prob(z), expected, rtol=1e-5)


@pytest.mark.parametrize("standard", [True, False])
def test_kl_is_the_integral(standard):
  q = _normal(0)
  p = StandardNormal(4) if standard else _normal(1)
  normal = lambda q, i: stats.norm(q.mean[i], np.exp(q.log_variance[i] / 2))
  expected = np.zeros((3, 4))
  for i in np.ndindex(3, 4):
    a, b = normal(q, i), stats.norm() if standard else normal(p, i)
    term = lambda x, a=a, b=b: a.pdf(x) * (a.logpdf(x) - b.logpdf(x))
    expected[i] = integrate.quad(term, a.ppf(1e-12), a.ppf(1 - 1e-12))[0]
  assert_allclose(q.kl_per_dimension(p), expected, atol=2e-5)
  assert_allclose(q.kl(p), expected.sum(1), rtol=1e-5)


def test_kl_by_hand_and_at_the_prior():
  q = DiagonalNormal(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, math.log(4.0)]]))
  # 1/2 + 1/2 (4 - 1 - log 4)
  expected = 0.5 + 0.5 * (3 - math.log(4))
  assert_allclose(q.kl(StandardNormal(2)), [expected], rtol=1e-6)
  zero = DiagonalNormal(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
  assert zero.kl(StandardNormal(2)) == 0
  tiny = DiagonalNormal(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-4))
  # 1/4 log_variance^2 to second order: cancellation would leave noise.
  assert_allclose(tiny.kl(StandardNormal(1)), 0.25e-8, rtol=1e-2)


def test_sample_has_the_moments_and_the_gradients():
  wide = lambda value: jnp.full((1, 20_000), value)
  z = DiagonalNormal(wide(2.0), wide(math.log(9.0))).sample(KEYS[:1])
  assert abs(z.mean() - 2) < 5 * 3 / math.sqrt(20_000)
  assert abs(z.std() - 3) < 0.1

  def total(mean, log_variance):
    return DiagonalNormal(mean, log_variance).sample(KEYS).sum()

  small = _normal(0)
  by_mean, by_variance = jax.grad(total, (0, 1))(small.mean, small.log_variance)
  assert_allclose(by_mean, np.ones((3, 4)))
  noise = small.sample(KEYS) - small.mean
  assert_allclose(by_variance, 0.5 * noise, rtol=1e-4, atol=1e-6)


def test_a_sample_depends_on_its_own_key_alone():
  q = _normal(0)
  one = DiagonalNormal(q.mean[1:2], q.log_variance[1:2])
  assert_array_equal(q.sample(KEYS)[1:2], one.sample(KEYS[1:2]))


def test_groups_add_up_and_draw_apart():
  a, b = _normal(0), _normal(1)
  both = Groups((a, b))
  prior = Groups((StandardNormal(4),) * 2)
  assert_allclose(both.kl(prior), a.kl(prior.groups[0]) + b.kl(prior.groups[1]))
  z = both.sample(KEYS)
  assert_allclose(both.log_prob(z), a.log_prob(z[0]) + b.log_prob(z[1]))
  same = Groups((a, a)).sample(KEYS)
  assert np.abs(same[0] - same[1]).min() > 1e-6


def _mixture():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return NormalMixture(draw(3, 2), draw(3, 2), draw(3))


def test_mixture_log_prob_is_a_loop_over_components():
  p = _mixture()
  z = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
  weight = special.softmax(np.asarray(p.logits, np.float64))
  sigma = np.exp(np.asarray(p.log_variance, np.float64) / 2)
  each = stats.norm.logpdf(z[:, None], p.mean, sigma).sum(-1)
  expected = special.logsumexp(np.log(weight) + each, axis=1)
  assert_allclose(p.log_prob(jnp.asarray(z)), expected, rtol=1e-5)


def test_narrow_components_are_exact():
  wide = lambda value: jnp.full((1, 2), value)
  p = NormalMixture(wide(30.0), wide(-12.0), jnp.zeros(1))
  z = wide(30 + 2**-10)
  expected = 2 * stats.norm.logpdf(2**-10, scale=np.exp(-6))
  assert_allclose(p.log_prob(z), [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mixture_samples_have_its_moments(temperature):
  p = _mixture()
  z = np.asarray(p.sample(MANY_KEYS, temperature), np.float64)
  weight = special.softmax(np.asarray(p.logits, np.float64))[:, None]
  mean = (weight * p.mean).sum(0)
  inside = temperature**2 * np.exp(p.log_variance)
  variance = (weight * (inside + p.mean**2)).sum(0) - mean**2
  error = 5 * np.sqrt(variance / len(z))
  assert (np.abs(z.mean(0) - mean) < error).all()
  assert_allclose(z.var(0), variance, rtol=0.06)


def test_temperature_scales_the_codes():
  prior = StandardNormal(4)
  assert_allclose(prior.sample(KEYS, 0.5), 0.5 * prior.sample(KEYS), rtol=1e-6)
  assert jnp.abs(prior.sample(KEYS, 0.0)).max() == 0
