"""Normal and Laplace likelihoods against scipy and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats

from vae_jax import distributions


def test_normal_likelihood_is_scipys():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(3, 5, 4, 2)), jnp.float32)
  image = rng.integers(0, 256, (3, 5, 4, 2)).astype(np.uint8)
  likelihood = distributions.Normal(mean, jnp.float32(math.log(0.2)))
  expected = scipy.stats.norm.logpdf(image / 255, mean, 0.2).sum((1, 2, 3))
  np.testing.assert_allclose(
    likelihood.log_prob(jnp.asarray(image)), expected, rtol=1e-5
  )
  by_sigma = jax.grad(
    lambda s: distributions.Normal(mean, s).log_prob(jnp.asarray(image)).sum()
  )(jnp.float32(math.log(0.2)))
  squares = np.square(image / 255 - np.asarray(mean)).sum()
  np.testing.assert_allclose(by_sigma, squares / 0.04 - image.size, rtol=1e-4)


def test_sigma_of_root_half_is_the_squared_error():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(2, 3, 3, 1)), jnp.float32)
  image = rng.integers(0, 256, (2, 3, 3, 1)).astype(np.uint8)
  likelihood = distributions.Normal(mean, jnp.float32(0.5 * math.log(0.5)))
  squares = np.square(image / 255 - np.asarray(mean)).sum((1, 2, 3))
  distortion = -likelihood.log_prob(jnp.asarray(image))
  np.testing.assert_allclose(
    distortion, squares + 4.5 * math.log(math.pi), rtol=1e-5
  )
  np.testing.assert_allclose(
    likelihood.metrics(jnp.asarray(image))["squared_error"], squares, rtol=1e-5
  )


def test_calibrated_normal_uses_the_best_variance_in_training_alone():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(4, 3, 3, 1)), jnp.float32)
  image = jnp.asarray(rng.integers(0, 256, (4, 3, 3, 1)), jnp.uint8)
  recorded = []
  train = distributions.CalibratedNormal(
    mean, jnp.float32(0.25), record=recorded.append
  )
  best = float(np.square(np.asarray(image) / 255 - np.asarray(mean)).mean())
  fitted = train.log_prob(image).sum()
  np.testing.assert_allclose(recorded[0], best, rtol=1e-5)
  # At the optimum, -D/2 (1 + log 2 pi sigma^2).
  closed = -0.5 * image.size * (1 + math.log(2 * math.pi * best))
  np.testing.assert_allclose(fitted, closed, rtol=1e-5)
  for other in (0.9 * best, 1.1 * best):
    fixed = distributions.Normal(mean, jnp.float32(0.5 * math.log(other)))
    assert fixed.log_prob(image).sum() < fitted
  evaluate = distributions.CalibratedNormal(mean, jnp.float32(0.25))
  np.testing.assert_allclose(
    evaluate.log_prob(image),
    distributions.Normal(mean, jnp.float32(math.log(0.5))).log_prob(image),
  )


def test_calibrated_normal_is_over_the_global_batch():
  rng = np.random.default_rng(0)
  mean = jnp.asarray(rng.uniform(size=(8, 3, 3, 1)), jnp.float32)
  image = jnp.asarray(rng.integers(0, 256, (8, 3, 3, 1)), jnp.uint8)

  def log_prob(mean, image, axis_name):
    return distributions.CalibratedNormal(
      mean, jnp.float32(1), record=lambda v: None, axis_name=axis_name
    ).log_prob(image)

  split = jax.vmap(lambda m, x: log_prob(m, x, "batch"), axis_name="batch")(
    mean.reshape(4, 2, 3, 3, 1), image.reshape(4, 2, 3, 3, 1)
  )
  np.testing.assert_allclose(
    split.reshape(-1), log_prob(mean, image, None), rtol=1e-5
  )


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


def test_normal_samples_have_the_standard_deviation():
  keys = jax.random.split(jax.random.key(1), 4000)
  mean = jnp.full((4000, 1, 1, 1), 0.5)
  gray = distributions.Normal(mean, jnp.float32(math.log(0.1))).sample(keys)
  assert abs(np.asarray(gray).std() / 255 - 0.1) < 0.01


def test_laplace_samples_have_the_distribution():
  count = 20_000
  keys = jax.random.split(jax.random.key(0), 1)
  laplace = distributions.Laplace(
    jnp.full((1, count, 1, 1), 0.4), jnp.float32(math.log(0.1))
  )
  draws = np.asarray(jax.jit(laplace.sample)(keys)).reshape(-1)
  for level in (0, 60, 102, 150, 254):
    share = scipy.stats.laplace.cdf((level + 0.5) / 255, 0.4, 0.1)
    error = 5 * math.sqrt(share * (1 - share) / count)
    assert abs((draws <= level).mean() - share) <= error
