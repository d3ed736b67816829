"""Densities of pixels in [0, 1] against scipy, quadrature and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from flax import linen as nn

from tests.support.linear_gaussian_vae import SIGMA, VAE, batch_of, exact_model
from vae_jax import distributions, models

# About 0, about where the series end (1), and saturated.
LOGITS = np.float32(
  [-50, -5, -1.001, -0.999, -1e-3, 0, 1e-5, 0.3, 0.999, 1.001, 8, 50]
)
LEVELS = np.uint8([0, 1, 100, 254, 255])


def _column(values, dtype=jnp.float32):
  return jnp.asarray(values, dtype).reshape(-1, 1, 1, 1)


def _log_normaliser(logit):
  """log of the integral of e^(l x), float64."""
  logit = np.float64(logit)
  near = logit == 0
  return np.log(np.where(near, 1, np.expm1(logit) / np.where(near, 1, logit)))


def _expected(power, logit):
  """E[x^power] of a continuous Bernoulli by quadrature in float64."""
  return scipy.integrate.quad(
    lambda x: x**power * np.exp(x * logit - _log_normaliser(logit)), 0, 1
  )[0]


def _summed(logits, image):
  log_p = distributions.ContinuousBernoulli(logits).log_prob(image)
  return log_p.sum(), log_p


def test_laplace_is_scipys():
  rng = np.random.default_rng(0)
  mean = rng.uniform(size=(3, 4, 2, 2)).astype(np.float32)
  image = rng.integers(0, 256, mean.shape).astype(np.uint8)
  laplace = distributions.Laplace(
    jnp.asarray(mean), jnp.float32(math.log(0.05))
  )
  expected = scipy.stats.laplace.logpdf(image / 255, mean, 0.05)
  log_prob = laplace.log_prob(jnp.asarray(image))
  np.testing.assert_allclose(log_prob, expected.sum((1, 2, 3)), rtol=1e-5)
  alone = distributions.Laplace(laplace.mean[1:2], laplace.log_scale)
  np.testing.assert_allclose(
    alone.log_prob(jnp.asarray(image[1:2])), log_prob[1:2], rtol=1e-6
  )
  squares = np.square(image / 255 - mean).sum((1, 2, 3))
  np.testing.assert_allclose(
    laplace.metrics(jnp.asarray(image))["squared_error"], squares, rtol=1e-5
  )


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
    value[1], x * logit - _log_normaliser(logit), rtol=1e-6, atol=1e-6
  )
  expected = x - np.tile(mean, LEVELS.size)
  np.testing.assert_allclose(gradient.reshape(-1), expected, atol=5e-7)


def test_draws_have_the_distribution():
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
  laplace = distributions.Laplace(
    jnp.full((1, count, 1, 1), 0.4), jnp.float32(math.log(0.1))
  )
  draws = np.asarray(draw(laplace, keys)).reshape(-1)
  for level in (0, 60, 102, 150, 254):
    share = scipy.stats.laplace.cdf((level + 0.5) / 255, 0.4, 0.1)
    error = 5 * math.sqrt(share * (1 - share) / count)
    assert abs((draws <= level).mean() - share) <= error


def test_dequantised_density_bounds_the_probability_of_the_level():
  count, mean, sigma = 20_000, 0.394, 0.002  # half a level of the mean
  likelihood = distributions.Normal(
    jnp.full((1, count, 1, 1), mean), jnp.float32(math.log(sigma))
  )
  noise = jax.random.uniform(jax.random.key(0), (1, count, 1, 1))
  for level in (100, 101):
    image = jnp.full((1, count, 1, 1), level, jnp.uint8)
    dequantized = distributions.Dequantized(likelihood, noise)
    exact, square = (
      scipy.integrate.quad(
        lambda u, power=power, level=level: (
          scipy.stats.norm.logpdf((level + u) / 256, mean, sigma) ** power
        ),
        0,
        1,
      )[0]
      for power in (1, 2)
    )
    # The sum over pixels is the sum over draws of the noise.
    estimate = float(dequantized.log_prob(image)[0]) / count
    error = 5 * math.sqrt((square - exact**2) / count)
    assert abs(estimate - exact) < error
    inside = np.diff(
      scipy.stats.norm.cdf([level / 256, (level + 1) / 256], mean, sigma)
    )
    assert exact - math.log(256) < math.log(inside[0])


def test_noise_follows_the_key_and_repeats_draw_by_draw():
  params, _ = exact_model()
  images = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 1))
  batch = batch_of(images)
  vae = VAE.clone(dequantize=True)
  z = jax.random.normal(jax.random.key(1), (4, 2))
  stacked = jnp.concatenate([batch.image] * 2)

  @jax.jit
  def decode(key):
    def run(vae):
      likelihood = vae.decode((z,))
      return likelihood.noise, likelihood.mean, likelihood.log_prob(stacked)

    return nn.apply(run, vae)({"params": params, **models.given(key=key)})

  noise, mean, log_prob = decode(batch.key)
  np.testing.assert_array_equal(noise[:2], noise[2:])
  assert len(np.unique(noise)) == noise.size / 2
  assert noise.min() >= 0 and noise.max() < 1
  x = (np.asarray(stacked) + np.asarray(noise)) / 256
  expected = scipy.stats.norm.logpdf(x, mean, SIGMA).sum((1, 2, 3))
  np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
  np.testing.assert_array_equal(decode(batch.key)[0], noise)
  # An image's noise is of its own key alone, wherever it lies.
  np.testing.assert_array_equal(decode(batch.key[::-1])[0], noise[::-1])


def test_without_keys_dequantised_pixels_have_a_mean_alone():
  params, _ = exact_model()
  z = (jnp.zeros((1, 2)),)
  image = jnp.zeros((1, 2, 3, 1), jnp.uint8)
  vae = VAE.clone(dequantize=True)
  mean = nn.apply(lambda vae: vae.decode(z).mean, vae)({"params": params})
  plain = nn.apply(lambda vae: vae.decode(z).mean, VAE)({"params": params})
  np.testing.assert_array_equal(mean, plain)
  with pytest.raises(ValueError, match=r"models\.given\(key=...\)"):
    nn.apply(lambda vae: vae.decode(z).log_prob(image), vae)({"params": params})
