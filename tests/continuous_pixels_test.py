"""Densities of pixels in [0, 1] against scipy, quadrature and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from flax import linen as nn

from tests.exact_model import SIGMA, VAE, batch_of, exact_model
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
  ours, slope = jax.jvp(
    lambda v: distributions.ContinuousBernoulli(v).mean,
    (logits,),
    (jnp.ones_like(logits),),
  )
  np.testing.assert_allclose(ours.reshape(-1), mean, atol=3e-7)
  # Of an exponential family: d mean / dl = variance, d log p / dl = x - mean.
  np.testing.assert_allclose(slope.reshape(-1), variance, atol=2e-6)
  for level in LEVELS:
    image = jnp.full(logits.shape, level)
    value, pull = jax.vjp(
      lambda v, image=image: distributions.ContinuousBernoulli(v).log_prob(
        image
      ),
      logits,
    )
    exact = level / 255 * LOGITS.astype(np.float64) - _log_normaliser(LOGITS)
    np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-6)
    (gradient,) = pull(jnp.ones_like(value))
    np.testing.assert_allclose(
      gradient.reshape(-1), level / 255 - mean, atol=5e-7
    )


def test_draws_have_the_distribution():
  count = 20_000
  keys = jax.random.split(jax.random.key(0), 1)
  for logit in (-8.0, 0.0, 3.0, 50.0):
    likelihood = distributions.ContinuousBernoulli(
      jnp.full((1, count, 1, 1), logit)
    )
    draws = np.asarray(likelihood.sample(keys)).reshape(-1)
    for level in (0, 20, 100, 200, 240):
      x = (level + 0.5) / 255
      share = x if logit == 0 else np.expm1(logit * x) / np.expm1(logit)
      error = 5 * math.sqrt(share * (1 - share) / count)
      assert abs((draws <= level).mean() - share) <= error
  laplace = distributions.Laplace(
    jnp.full((1, count, 1, 1), 0.4), jnp.float32(math.log(0.1))
  )
  draws = np.asarray(laplace.sample(keys)).reshape(-1)
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
    # The noise is what the values rest on: at the lower end they are others.
    ends = scipy.stats.norm.logpdf([level / 256, level / 255], mean, sigma)
    assert np.abs(ends - exact).min() > 2 * error


def test_noise_follows_the_key_and_repeats_draw_by_draw():
  params, _ = exact_model()
  images = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 1))
  batch = batch_of(images)
  vae = VAE.clone(dequantize=True)
  z = jax.random.normal(jax.random.key(1), (4, 2))

  def log_prob(z, image, key):
    variables = {"params": params, **models.given(key=key)}
    return nn.apply(lambda vae: vae.decode((z,)).log_prob(image), vae)(
      variables
    )

  stacked = jnp.concatenate([batch.image] * 2)
  both = log_prob(z, stacked, batch.key)
  for part in (slice(0, 2), slice(2, 4)):
    np.testing.assert_allclose(
      log_prob(z[part], batch.image, batch.key), both[part], rtol=1e-6
    )
  np.testing.assert_allclose(
    log_prob(z[1:2], batch.image[1:], batch.key[1:]), both[1:2], rtol=1e-6
  )
  other = log_prob(z, stacked, jax.random.split(jax.random.key(9), 2))
  assert np.abs(other - both).min() > 1e-6

  def noise(vae):
    return vae.decode((z,)).noise

  u = nn.apply(noise, vae)({"params": params, **models.given(key=batch.key)})
  np.testing.assert_array_equal(u[:2], u[2:])
  assert len(np.unique(u)) == u.size / 2 and 0 <= u.min() and u.max() < 1
  mean = nn.apply(lambda vae: vae.decode((z,)).mean, vae)({"params": params})
  expected = scipy.stats.norm.logpdf((stacked + u) / 256, mean, SIGMA)
  np.testing.assert_allclose(both, expected.sum((1, 2, 3)), rtol=1e-5)


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
