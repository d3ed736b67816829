"""Bernoulli likelihoods against scipy, sums, quadrature and closed forms."""

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

LOGITS = np.float32(
  [-50, -5, -1.001, -0.999, -1e-3, 0, 1e-5, 0.3, 0.999, 1.001, 8, 50]
)


LEVELS = np.uint8([0, 1, 100, 254, 255])


def _column(values, dtype=jnp.float32):
  return jnp.asarray(values, dtype).reshape(-1, 1, 1, 1)


def _log_normalizer(logit):
  """log of the integral of e^(l x), float64."""
  logit = np.float64(logit)
  near = logit == 0
  return np.log(np.where(near, 1, np.expm1(logit) / np.where(near, 1, logit)))


def _expected(power, logit):
  """E[x^power] of a continuous Bernoulli by quadrature in float64."""
  return scipy.integrate.quad(
    lambda x: x**power * np.exp(x * logit - _log_normalizer(logit)), 0, 1
  )[0]


def _summed(logits, image):
  log_p = distributions.ContinuousBernoulli(logits).log_prob(image)
  return log_p.sum(), log_p


def test_bernoulli_is_scipys_and_sums_to_one():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(3 * rng.normal(size=(1, 2, 2, 1)), jnp.float32)
  likelihood = distributions.Bernoulli(logits)
  total = 0.0
  for bits in itertools.product((0, 255), repeat=4):
    image = jnp.asarray(bits, jnp.uint8).reshape(1, 2, 2, 1)
    value = likelihood.log_prob(image)
    expected = scipy.stats.bernoulli.logpmf(
      np.asarray(image) // 255, scipy.special.expit(logits)
    ).sum()
    np.testing.assert_allclose(value, [expected], rtol=1e-5)
    total += float(jnp.exp(value[0]))
  assert total == pytest.approx(1, abs=1e-5)


def test_bernoulli_stays_finite_at_huge_logits():
  logits = jnp.array([-1e4, 1e4]).reshape(1, 2, 1, 1)
  image = jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1, 1)
  assert distributions.Bernoulli(logits).log_prob(image) == 0
  wrong = distributions.Bernoulli(-logits).log_prob(image)
  np.testing.assert_allclose(wrong, [-2e4])


def test_bernoulli_gradient_is_pixel_minus_probability():
  logits = jnp.array([-40.0, -3.0, 0.0, 0.5, 40.0]).reshape(1, 5, 1, 1)
  image = jnp.array([0, 255, 128, 255, 255], jnp.uint8).reshape(1, 5, 1, 1)
  gradient = jax.grad(
    lambda x: distributions.Bernoulli(x).log_prob(image).sum()
  )(logits)
  expected = np.asarray(image) / 255 - scipy.special.expit(logits)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_continuous_bernoulli_integrates_to_one():
  logits = jnp.asarray(LOGITS)

  def density(x):
    x = jnp.asarray(x, jnp.float32)
    shape = (LOGITS.size * x.size, 1, 1, 1)
    grid = jnp.meshgrid(logits, x, indexing="ij")
    likelihood = distributions.ContinuousBernoulli(grid[0].reshape(shape))
    log_p = likelihood.log_density(grid[1].reshape(shape))
    return np.exp(np.float64(log_p)).reshape(LOGITS.size, x.size)

  total, _ = scipy.integrate.fixed_quad(density, 0, 1, n=60)
  np.testing.assert_allclose(total, 1, atol=1e-5)


def test_continuous_bernoulli_density_mean_and_gradients():
  mean = np.array([_expected(1, v) for v in LOGITS])
  variance = np.array([_expected(2, v) for v in LOGITS]) - mean**2
  logits = _column(LOGITS)
  ours, slope = jax.jit(
    lambda v: jax.jvp(
      lambda v: distributions.ContinuousBernoulli(v).mean,
      (v,),
      (jnp.ones_like(v),),
    )
  )(logits)
  np.testing.assert_allclose(ours.reshape(-1), mean, atol=3e-7)
  # Of an exponential family: d mean / dl = variance, d log p / dl = x - mean.
  np.testing.assert_allclose(slope.reshape(-1), variance, atol=2e-6)
  level = np.repeat(LEVELS, LOGITS.size)
  logits = jnp.tile(logits, (LEVELS.size, 1, 1, 1))
  value, gradient = jax.jit(jax.value_and_grad(_summed, has_aux=True))(
    logits, _column(level, jnp.uint8)
  )
  x = level / 255
  logit = np.tile(LOGITS.astype(np.float64), LEVELS.size)
  np.testing.assert_allclose(
    value[1], x * logit - _log_normalizer(logit), rtol=1e-6, atol=1e-6
  )
  expected = x - np.tile(mean, LEVELS.size)
  np.testing.assert_allclose(gradient.reshape(-1), expected, atol=5e-7)


def test_binary_samples_have_the_probability():
  keys = jax.random.split(jax.random.key(1), 4000)
  logits = jnp.full((4000, 1, 1, 1), math.log(0.3 / 0.7))
  white = np.asarray(distributions.Bernoulli(logits).sample(keys))
  assert set(np.unique(white)) == {0, 255}
  assert abs(white.mean() / 255 - 0.3) < 0.04


def test_gray_samples_have_the_distribution():
  count = 20_000
  keys = jax.random.split(jax.random.key(0), 1)
  draw = jax.jit(lambda likelihood, key: likelihood.sample(key))
  for logit in (-8.0, 0.0, 3.0, 50.0):
    likelihood = distributions.ContinuousBernoulli(
      jnp.full((1, count, 1, 1), logit)
    )
    draws = np.asarray(draw(likelihood, keys)).reshape(-1)
    for level in (0, 20, 100, 200, 240):
      x = (level + 0.5) / 255
      share = x if logit == 0 else np.expm1(logit * x) / np.expm1(logit)
      error = 5 * math.sqrt(share * (1 - share) / count)
      assert abs((draws <= level).mean() - share) <= error
