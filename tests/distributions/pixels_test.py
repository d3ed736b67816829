"""Likelihoods of pixels in [0, 1] against SciPy, quadrature, closed forms."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, special, stats

from vae_jax.distributions import (
  LOG_2PI,
  MIN_SIGMA,
  Bernoulli,
  CalibratedNormal,
  ContinuousBernoulli,
  Dequantized,
  Laplace,
  Normal,
)

LOGITS = np.float32(
  [-50, -5, -1.001, -0.999, -1e-3, 0, 1e-5, 0.3, 0.999, 1.001, 8, 50]
)
LEVELS = np.uint8([0, 1, 100, 254, 255])
RNG = np.random.default_rng(0)
MEAN = jnp.asarray(RNG.uniform(size=(8, 3, 3, 2)), jnp.float32)
IMAGE = jnp.asarray(RNG.integers(0, 256, MEAN.shape), jnp.uint8)
X = np.asarray(IMAGE) / 255
SQUARES = np.square(X - np.asarray(MEAN)).sum((1, 2, 3))


def _log(value):
  return jnp.float32(math.log(value))


def _column(values, dtype=jnp.float32):
  return jnp.asarray(values, dtype).reshape(-1, 1, 1, 1)


def _log_normalizer(logit):
  """log of the integral of e^(l x), float64."""
  logit = np.float64(logit)
  near = logit == 0
  return np.log(np.where(near, 1, np.expm1(logit) / np.where(near, 1, logit)))


def _expected(power, logit):
  """E[x^power] of a continuous Bernoulli by quadrature in float64."""
  return integrate.quad(
    lambda x: x**power * np.exp(x * logit - _log_normalizer(logit)), 0, 1
  )[0]


def test_bernoulli_is_scipys_and_sums_to_one():
  logits = np.float32(3 * np.random.default_rng(0).normal(size=(1, 2, 2, 1)))
  x = np.array(list(itertools.product((0, 1), repeat=4))).reshape(16, 2, 2, 1)
  likelihood = Bernoulli(jnp.tile(logits, (16, 1, 1, 1)))
  value = likelihood.log_prob(jnp.asarray(255 * x, jnp.uint8))
  expected = stats.bernoulli.logpmf(x, special.expit(logits)).sum((1, 2, 3))
  assert_allclose(value, expected, rtol=1e-5)
  assert jnp.exp(value).sum() == pytest.approx(1, abs=1e-5)


def test_bernoulli_stays_finite_at_huge_logits():
  logits = jnp.array([-1e4, 1e4]).reshape(1, 2, 1, 1)
  image = jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1, 1)
  assert Bernoulli(logits).log_prob(image) == 0
  assert_allclose(Bernoulli(-logits).log_prob(image), [-2e4])


def test_bernoulli_gradient_is_pixel_minus_probability():
  logits = _column([-40.0, -3.0, 0.0, 0.5, 40.0])
  image = _column([0, 255, 128, 255, 255], jnp.uint8)
  gradient = jax.grad(lambda x: Bernoulli(x).log_prob(image).sum())(logits)
  expected = np.asarray(image) / 255 - special.expit(logits)
  assert_allclose(gradient, expected, atol=1e-6)


def test_continuous_bernoulli_integrates_to_one():
  def density(x):
    logits, x = jnp.meshgrid(jnp.asarray(LOGITS), jnp.float32(x), indexing="ij")
    log_p = ContinuousBernoulli(_column(logits)).log_density(_column(x))
    return np.exp(np.float64(log_p)).reshape(x.shape)

  total, _ = integrate.fixed_quad(density, 0, 1, n=60)
  assert_allclose(total, 1, atol=1e-5)


def test_continuous_bernoulli_density_mean_and_gradients():
  mean = np.array([_expected(1, v) for v in LOGITS])
  variance = np.array([_expected(2, v) for v in LOGITS]) - mean**2
  level, logit = (v.ravel() for v in np.meshgrid(LEVELS, LOGITS, indexing="ij"))

  @jax.jit
  def run(logits):
    one = jnp.ones_like(logits)
    mean = jax.jvp(lambda v: ContinuousBernoulli(v).mean, (logits,), (one,))

    def total(logits):
      log_p = ContinuousBernoulli(logits).log_prob(_column(level, jnp.uint8))
      return log_p.sum(), log_p

    return mean, jax.grad(total, has_aux=True)(_column(logit))

  (ours, slope), (gradient, log_p) = run(_column(LOGITS))
  assert_allclose(ours.ravel(), mean, atol=3e-7)
  # Of an exponential family: d mean / dl = variance, d log p / dl = x - mean.
  assert_allclose(slope.ravel(), variance, atol=2e-6)
  x = level / 255
  expected = x * logit.astype(np.float64) - _log_normalizer(logit)
  assert_allclose(log_p, expected, rtol=1e-6, atol=1e-6)
  expected = x - np.tile(mean, LEVELS.size)
  assert_allclose(gradient.ravel(), expected, atol=5e-7)


@pytest.mark.parametrize(
  "kind, scipys", [(Normal, stats.norm), (Laplace, stats.laplace)]
)
def test_density_is_scipys_and_each_images_own(kind, scipys):
  likelihood = kind(MEAN, _log(0.2))
  log_prob = likelihood.log_prob(IMAGE)
  expected = scipys.logpdf(X, MEAN, 0.2).sum((1, 2, 3))
  assert_allclose(log_prob, expected, rtol=1e-5)
  alone = kind(MEAN[1:2], _log(0.2)).log_prob(IMAGE[1:2])
  assert_allclose(alone, log_prob[1:2], rtol=1e-6)
  metrics = likelihood.metrics(IMAGE)
  assert_allclose(metrics["squared_error"], SQUARES, rtol=1e-5)


def test_normal_likelihood_is_the_squared_error():
  by_sigma = jax.grad(lambda s: Normal(MEAN, s).log_prob(IMAGE).sum())
  expected = SQUARES.sum() / 0.04 - IMAGE.size
  assert_allclose(by_sigma(_log(0.2)), expected, rtol=1e-4)
  distortion = -Normal(MEAN, _log(0.5**0.5)).log_prob(IMAGE)
  assert_allclose(distortion, SQUARES + 9 * math.log(math.pi), rtol=1e-5)


def test_calibrated_normal_uses_the_best_variance_in_training_alone():
  recorded = []
  best = SQUARES.sum() / IMAGE.size
  train = CalibratedNormal(MEAN, jnp.float32(0.25), record=recorded.append)
  fitted = train.log_prob(IMAGE).sum()
  assert_allclose(recorded[0], best, rtol=1e-5)
  # At the optimum, -D/2 (1 + log 2 pi sigma^2).
  closed = -0.5 * IMAGE.size * (1 + math.log(2 * math.pi * best))
  assert_allclose(fitted, closed, rtol=1e-5)
  for other in (0.9 * best, 1.1 * best):
    assert Normal(MEAN, _log(other**0.5)).log_prob(IMAGE).sum() < fitted
  evaluated = CalibratedNormal(MEAN, jnp.float32(0.25)).log_prob(IMAGE)
  assert_allclose(evaluated, Normal(MEAN, _log(0.5)).log_prob(IMAGE))


def test_calibrated_normal_has_a_smallest_deviation():
  recorded = []
  exact = CalibratedNormal(
    jnp.float32(X), jnp.float32(0), record=recorded.append
  )
  closed = -IMAGE[0].size * (math.log(MIN_SIGMA) + 0.5 * LOG_2PI)
  assert_allclose(exact.log_prob(IMAGE), np.full(len(IMAGE), closed), rtol=1e-5)
  assert_allclose(recorded[0], MIN_SIGMA**2, rtol=1e-5)
  evaluated = CalibratedNormal(exact.mean, jnp.float32(0)).log_prob(IMAGE)
  assert_allclose(evaluated, exact.log_prob(IMAGE))
  # The deviation of a number rounded to the nearest of 256 levels.
  numbers = np.linspace(0, 1, 100_001)
  error = np.round(255 * numbers) / 255 - numbers
  assert_allclose(error.std(), MIN_SIGMA, rtol=1e-4)


def test_calibrated_normal_is_over_the_global_batch():
  def log_prob(mean, image, axis_name):
    return CalibratedNormal(
      mean, jnp.float32(1), record=lambda v: None, axis_name=axis_name
    ).log_prob(image)

  parts = (v.reshape(4, 2, *v.shape[1:]) for v in (MEAN, IMAGE))
  one = functools.partial(log_prob, axis_name="batch")
  split = jax.vmap(one, axis_name="batch")(*parts)
  assert_allclose(split.ravel(), log_prob(MEAN, IMAGE, None), rtol=1e-5)


def test_each_key_gives_its_own_draw():
  keys = jax.random.split(jax.random.key(1), 4000)
  logits = jnp.full((4000, 1, 1, 1), math.log(0.3 / 0.7))
  white = np.asarray(Bernoulli(logits).sample(keys))
  assert set(np.unique(white)) == {0, 255}
  assert abs(white.mean() / 255 - 0.3) < 0.04
  gray = Normal(jnp.full((4000, 1, 1, 1), 0.5), _log(0.1)).sample(keys)
  assert abs(np.asarray(gray).std() / 255 - 0.1) < 0.01


def test_gray_samples_have_the_distribution():
  count = 20_000
  wide = lambda value: jnp.full((1, count, 1, 1), value)
  cases = [(Laplace(wide(0.4), _log(0.1)), stats.laplace(0.4, 0.1).cdf)]
  for logit in (-8.0, 0.0, 3.0, 50.0):
    cdf = lambda x, v=logit: np.expm1(v * x) / np.expm1(v) if v else x
    cases.append((ContinuousBernoulli(wide(logit)), cdf))
  keys = jax.random.split(jax.random.key(0), 1)
  draw = jax.jit(lambda likelihood: likelihood.sample(keys))
  for likelihood, cdf in cases:
    draws = np.asarray(draw(likelihood))
    for level in (0, 20, 60, 100, 102, 150, 200, 240, 254):
      share = cdf((level + 0.5) / 255)
      error = 5 * math.sqrt(share * (1 - share) / count)
      assert abs((draws <= level).mean() - share) <= error


def test_dequantized_density_bounds_the_probability_of_the_level():
  count, mean, sigma = 20_000, 0.394, 0.002  # half a level of the mean
  likelihood = Normal(jnp.full((1, count, 1, 1), mean), _log(sigma))
  noise = jax.random.uniform(jax.random.key(0), (1, count, 1, 1))
  normal = stats.norm(mean, sigma)
  for level in (100, 101):
    image = jnp.full((1, count, 1, 1), level, jnp.uint8)
    log_p = lambda u, k, level=level: normal.logpdf((level + u) / 256) ** k
    exact, square = (integrate.quad(log_p, 0, 1, (k,))[0] for k in (1, 2))
    # The sum over pixels is the sum over draws of the noise.
    log_prob = Dequantized(likelihood, noise).log_prob(image)
    error = 5 * math.sqrt((square - exact**2) / count)
    assert abs(float(log_prob[0]) / count - exact) < error
    inside = np.diff(normal.cdf([level / 256, (level + 1) / 256]))
    assert exact - math.log(256) < math.log(inside[0])
