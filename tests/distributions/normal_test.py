"""Latent distributions against scipy, integrals and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from vae_jax import distributions

KEYS = jax.random.split(jax.random.key(0), 3)


MANY_KEYS = jax.random.split(jax.random.key(3), 20_000)


def _normal(seed: int) -> distributions.DiagonalNormal:
  rng = np.random.default_rng(seed)
  return distributions.DiagonalNormal(
    jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
    jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
  )


def test_normal_log_prob_is_scipys():
  q, z = _normal(0), _normal(1).mean
  scale = np.exp(0.5 * np.asarray(q.log_variance))
  expected = scipy.stats.norm.logpdf(z, q.mean, scale).sum(1)
  np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-5)
  expected = scipy.stats.norm.logpdf(z).sum(1)
  prior = distributions.StandardNormal(4)
  np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)


@pytest.mark.parametrize("standard", [True, False])
def test_kl_is_the_integral(standard):
  q = _normal(0)
  p = distributions.StandardNormal(4) if standard else _normal(1)
  expected = np.zeros((3, 4))
  for i, j in itertools.product(range(3), range(4)):
    ours = scipy.stats.norm(q.mean[i, j], np.exp(q.log_variance[i, j] / 2))
    theirs = scipy.stats.norm()
    if not standard:
      theirs = scipy.stats.norm(p.mean[i, j], np.exp(p.log_variance[i, j] / 2))
    low, high = ours.ppf(1e-12), ours.ppf(1 - 1e-12)
    expected[i, j] = scipy.integrate.quad(
      lambda x, a=ours, b=theirs: a.pdf(x) * (a.logpdf(x) - b.logpdf(x)),
      low,
      high,
    )[0]
  np.testing.assert_allclose(q.kl_per_dimension(p), expected, atol=2e-5)
  np.testing.assert_allclose(q.kl(p), expected.sum(1), rtol=1e-5)


def test_kl_by_hand_and_at_the_prior():
  q = distributions.DiagonalNormal(
    jnp.array([[1.0, 0.0]]), jnp.array([[0.0, math.log(4.0)]])
  )
  # 1/2 + 1/2 (4 - 1 - log 4)
  expected = 0.5 + 0.5 * (3 - math.log(4))
  np.testing.assert_allclose(
    q.kl(distributions.StandardNormal(2)), [expected], rtol=1e-6
  )
  zero = distributions.DiagonalNormal(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
  assert zero.kl(distributions.StandardNormal(2)) == 0
  tiny = distributions.DiagonalNormal(jnp.zeros((1, 1)), jnp.full((1, 1), 1e-4))
  # 1/4 log_variance^2 to second order: cancellation would leave noise.
  np.testing.assert_allclose(
    tiny.kl(distributions.StandardNormal(1)), 0.25e-8, rtol=1e-2
  )


def test_sample_has_the_moments_and_the_gradients():
  q = distributions.DiagonalNormal(
    jnp.full((1, 20_000), 2.0), jnp.full((1, 20_000), math.log(9.0))
  )
  z = q.sample(KEYS[:1])
  assert abs(z.mean() - 2) < 5 * 3 / math.sqrt(20_000)
  assert abs(z.std() - 3) < 0.1

  def total(mean, log_variance):
    return distributions.DiagonalNormal(mean, log_variance).sample(KEYS).sum()

  small = _normal(0)
  by_mean, by_variance = jax.grad(total, (0, 1))(small.mean, small.log_variance)
  np.testing.assert_allclose(by_mean, np.ones((3, 4)))
  noise = small.sample(KEYS) - small.mean
  np.testing.assert_allclose(by_variance, 0.5 * noise, rtol=1e-4, atol=1e-6)


def test_a_sample_depends_on_its_own_key_alone():
  q = _normal(0)
  one = distributions.DiagonalNormal(q.mean[1:2], q.log_variance[1:2])
  np.testing.assert_array_equal(q.sample(KEYS)[1:2], one.sample(KEYS[1:2]))


def test_groups_add_up_and_draw_apart():
  a, b = _normal(0), _normal(1)
  both = distributions.Groups((a, b))
  prior = distributions.Groups((distributions.StandardNormal(4),) * 2)
  np.testing.assert_allclose(
    both.kl(prior), a.kl(prior.groups[0]) + b.kl(prior.groups[1])
  )
  z = both.sample(KEYS)
  np.testing.assert_allclose(
    both.log_prob(z), a.log_prob(z[0]) + b.log_prob(z[1])
  )
  same = distributions.Groups((a, a)).sample(KEYS)
  assert np.abs(same[0] - same[1]).min() > 1e-6


@jax.jit
def _sample(p, key, temperature):
  return p.sample(key, temperature)


def _mixture():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  return distributions.NormalMixture(draw(3, 2), draw(3, 2), draw(3))


def test_mixture_log_prob_is_a_loop_over_components():
  p = _mixture()
  z = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
  weight = scipy.special.softmax(np.asarray(p.logits, np.float64))
  sigma = np.exp(np.asarray(p.log_variance, np.float64) / 2)
  each = [
    np.log(weight[k]) + scipy.stats.norm.logpdf(z, p.mean[k], sigma[k]).sum(1)
    for k in range(3)
  ]
  expected = scipy.special.logsumexp(each, axis=0)
  np.testing.assert_allclose(p.log_prob(jnp.asarray(z)), expected, rtol=1e-5)


def test_narrow_components_are_exact():
  p = distributions.NormalMixture(
    jnp.full((1, 2), 30.0), jnp.full((1, 2), -12.0), jnp.zeros(1)
  )
  sigma = np.exp(-6)
  z = jnp.float32(30) + jnp.full((1, 2), 2**-10, jnp.float32)
  expected = 2 * scipy.stats.norm.logpdf(2**-10, scale=sigma)
  np.testing.assert_allclose(p.log_prob(z), [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mixture_samples_have_its_moments(temperature):
  p = _mixture()
  z = np.asarray(_sample(p, MANY_KEYS, temperature), np.float64)
  weight = scipy.special.softmax(np.asarray(p.logits, np.float64))[:, None]
  mean = (weight * p.mean).sum(0)
  inside = temperature**2 * np.exp(p.log_variance)
  variance = (weight * (inside + p.mean**2)).sum(0) - mean**2
  error = 5 * np.sqrt(variance / len(z))
  assert (np.abs(z.mean(0) - mean) < error).all()
  np.testing.assert_allclose(z.var(0), variance, rtol=0.06)


def test_temperature_scales_the_codes():
  keys = jax.random.split(jax.random.key(0), 3)
  prior = distributions.StandardNormal(4)
  np.testing.assert_allclose(
    prior.sample(keys, 0.5), 0.5 * prior.sample(keys), rtol=1e-6
  )
  assert jnp.abs(prior.sample(keys, 0.0)).max() == 0
