"""Probabilities of gray levels: sums, scipy, and their own draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special, stats

from vae_jax.distributions import (
  Categorical,
  DiscretizedLogistic,
  DiscretizedLogisticMixture,
)

LOCATIONS = (-50.0, -1.3, -1.0, -0.301, 0.0, 0.77, 1.0, 3.0, 50.0)
LOG_SCALES = (-7.0, -4.0, -1.5, 1.0, 50.0)


def _reference(level, location, log_scale, bits):
  """log P(level) in float64, from scipy's distribution function."""
  last = 2.0**bits - 1
  x = 2 * np.asarray(level, np.float64) / last - 1
  upper = np.where(level == last, np.inf, x + 1 / last)
  lower = np.where(level == 0, -np.inf, x - 1 / last)
  # From the tail in which the two differ most.
  flip = x > location
  a = np.where(flip, location - lower, upper - location)
  b = np.where(flip, location - upper, lower - location)
  scale = np.exp(np.float64(log_scale))
  top = stats.logistic.logcdf(a, scale=scale)
  bottom = stats.logistic.logcdf(b, scale=scale)
  return top + np.log(-np.expm1(bottom - top))


def _values(levels, bits):
  return jnp.asarray(np.asarray(levels) << (8 - bits), jnp.uint8)


def _grid(bits):
  """Every level with every location and scale, flat, in float64."""
  grid = np.meshgrid(np.arange(2**bits), LOCATIONS, LOG_SCALES, indexing="ij")
  return [v.ravel() for v in grid]


@jax.jit
def _log_prob(likelihood, image):
  return likelihood.log_prob(image)


def _single(location, log_scale, bits):
  column = lambda v: jnp.asarray(v, jnp.float32).reshape(-1, 1, 1, 1)
  return DiscretizedLogistic(column(location), column(log_scale), bits)


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_logistic_sums_to_one_and_is_scipys(bits):
  level, location, log_scale = _grid(bits)
  image = _values(level, bits).reshape(-1, 1, 1, 1)
  likelihood = _single(location, log_scale, bits)
  log_p, mean = jax.jit(lambda p, x: (p.log_prob(x), p.mean))(likelihood, image)
  log_p = np.float64(log_p)
  by_level = (2**bits, len(LOCATIONS), len(LOG_SCALES))
  probability = np.exp(log_p).reshape(by_level)
  assert_allclose(probability.sum(0), 1, atol=2e-5)
  assert np.isfinite(log_p).all()
  # Of wider ones not even float64 has the difference.
  use = log_scale < 20
  location = np.float64(np.float32(location))
  expected = _reference(level[use], location[use], log_scale[use], bits)
  # At scale e^-7 rounding of the location is worth 1e-4 nats.
  assert_allclose(log_p[use], expected, rtol=1e-5, atol=2e-4)
  # The mean is that of the levels, but for rounding.
  width = 2 ** (8 - bits)
  exact = np.tensordot(np.arange(2**bits) * width, probability, (0, 0))
  assert mean.min() >= 0 and mean.max() <= 1
  mean = 255 * np.asarray(mean).reshape(by_level)[0]
  assert np.abs(mean - exact).max() <= 0.5 * width + 1e-3
  if bits == 8:
    wide = slice(2, None)  # Scales of 28 levels and more.
    assert_allclose(mean[:, wide], exact[:, wide], atol=0.01)


def test_logistic_gradients_are_finite_differences():
  level, location, log_scale = _grid(8)
  # Where differences in float64 still have digits.
  use = (np.abs(location) < 2) & (log_scale < 2)
  level, location, log_scale = level[use], location[use], log_scale[use]
  image = _values(level, 8).reshape(-1, 1, 1, 1)

  def total(location, log_scale):
    return DiscretizedLogistic(location, log_scale).log_prob(image).sum()

  at = _single(location, log_scale, 8)
  slopes = jax.jit(jax.grad(total, (0, 1)))(at.location, at.log_scale)
  location, step = np.float64(at.location).ravel(), 1e-6
  for gradient, by in zip(slopes, ((step, 0), (0, step)), strict=True):
    up = _reference(level, location + by[0], log_scale + by[1], 8)
    down = _reference(level, location - by[0], log_scale - by[1], 8)
    ours = gradient.ravel() * np.exp(log_scale)
    expected = (up - down) / (2 * step) * np.exp(log_scale)
    assert_allclose(ours, expected, rtol=2e-4, atol=2e-4)


def _mixture(bits, channels, components, seed=0, scale=-1.0):
  rng = np.random.default_rng(seed)
  pairs = channels * (channels - 1) // 2
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return DiscretizedLogisticMixture(
    draw(1, 1, 1, components),
    0.5 * draw(1, 1, 1, channels, components),
    0.5 * draw(1, 1, 1, channels, components) + scale,
    jnp.tanh(draw(1, 1, 1, pairs, components)),
    bits,
  )


def _repeat(likelihood, *counts):
  """Repeats one pixel's likelihood over images, rows or both."""

  def tile(v):
    # By NumPy, which has nothing to compile.
    return jnp.asarray(np.tile(v, counts + (1,) * (v.ndim - len(counts))))

  return jax.tree.map(tile, likelihood)


def _reference_mixture(likelihood, levels):
  """log P of one pixel's levels, in float64, term by term."""
  location, log_scale, a = (
    np.float64(getattr(likelihood, name))[0, 0, 0]
    for name in ("location", "log_scale", "coefficients")
  )
  x = 2 * np.asarray(levels, np.float64) / (2**likelihood.bits - 1) - 1
  shifts = [0]
  if len(levels) == 3:
    shifts += [a[0] * x[0], a[1] * x[0] + a[2] * x[1]]
  terms = special.log_softmax(np.float64(likelihood.logits).ravel())
  for c, shift in enumerate(shifts):
    center, width = location[c] + shift, log_scale[c]
    terms = terms + _reference(levels[c], center, width, likelihood.bits)
  return special.logsumexp(terms)


@pytest.mark.parametrize("bits, channels", [(8, 1), (8, 3), (5, 3)])
def test_mixture_is_the_sum_over_components(bits, channels):
  likelihood = _mixture(bits, channels, 4, scale=-3.0)
  levels = np.random.default_rng(1).integers(0, 2**bits, (10, 3, channels))
  levels[0] = [[0], [2**bits - 1], [1]]
  image = _values(levels[:, :, None], bits)
  pixels = levels.reshape(30, channels)
  expected = [_reference_mixture(likelihood, pixel) for pixel in pixels]
  log_p = _log_prob(_repeat(likelihood, 10, 3), image)
  assert_allclose(log_p, np.sum(np.reshape(expected, (10, 3)), 1), rtol=2e-5)


def test_each_channel_given_those_before_it_sums_to_one():
  """Over all 256 levels of a channel, with the later ones summed out."""
  likelihood = _mixture(8, 3, 3, scale=-2.0)

  def log_prob(*levels):
    """As by a model of as many channels, of which each sees the earlier."""
    c = len(levels)
    part = likelihood.replace(
      location=likelihood.location[..., :c, :],
      log_scale=likelihood.log_scale[..., :c, :],
      coefficients=likelihood.coefficients[..., : c * (c - 1) // 2, :],
    )
    levels = np.stack(np.broadcast_arrays(*levels), axis=-1)
    image = _values(levels.reshape(-1, 1, 1, c), 8)
    return np.float64(_log_prob(_repeat(part, len(image)), image))

  every = np.arange(256)
  red = log_prob(every)
  assert np.exp(red).sum() == pytest.approx(1, abs=1e-5)
  green = log_prob(17, every)
  assert special.logsumexp(green) == pytest.approx(red[17], abs=1e-4)
  blue = log_prob(17, 203, every)
  assert special.logsumexp(blue) == pytest.approx(green[203], abs=1e-4)


def test_one_component_without_coefficients_is_the_single_logistic():
  rng = np.random.default_rng(0)
  draw = lambda: jnp.asarray(rng.normal(size=(2, 3, 2, 3)), jnp.float32)
  location, log_scale = draw(), draw() - 2
  single = DiscretizedLogistic(location, log_scale)
  mixture = DiscretizedLogisticMixture(
    jnp.ones((2, 3, 2, 1)),
    location[..., None],
    log_scale[..., None],
    jnp.zeros((2, 3, 2, 3, 1)),
  )
  image = jnp.asarray(rng.integers(0, 256, (2, 3, 2, 3)), jnp.uint8)
  look = jax.jit(lambda p, x: (p.log_prob(x), p.mean, p.metrics(x)))
  values = look(single, image)
  leaves = map(jax.tree.leaves, (values, look(mixture, image)))
  for ours, other in zip(*leaves, strict=True):
    assert_allclose(other, ours, rtol=1e-5)
  squares = np.square(image / 255 - np.asarray(values[1])).sum((1, 2, 3))
  assert_allclose(values[2]["squared_error"], squares, rtol=1e-5)
  # An image's probability is its own.
  log_p = _log_prob(jax.tree.map(lambda v: v[1:], mixture), image[1:])
  assert_allclose(log_p, values[0][1:], rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 5])
def test_categorical_is_the_log_softmax(bits):
  rng = np.random.default_rng(0)
  logits = 3 * rng.normal(size=(3, 2, 2, 2, 2**bits)).astype(np.float32)
  level = rng.integers(0, 2**bits, (3, 2, 2, 2))
  log_p = special.log_softmax(np.float64(logits), axis=-1)
  chosen = np.take_along_axis(log_p, level[..., None], -1).sum((1, 2, 3, 4))
  likelihood = Categorical(jnp.asarray(logits))
  image = _values(level, bits)
  assert_allclose(likelihood.log_prob(image), chosen, rtol=1e-5)
  values = np.arange(2**bits) * 2 ** (8 - bits) / 255
  mean = (np.exp(log_p) * values).sum(-1)
  assert_allclose(likelihood.mean, mean, rtol=1e-5)
  squares = np.square(image / 255 - mean).sum((1, 2, 3))
  metrics = likelihood.metrics(image)
  assert_allclose(metrics["squared_error"], squares, rtol=1e-4)


@pytest.mark.parametrize("name", ["categorical", "logistic", "mixture"])
def test_draws_are_those_of_the_probability(name):
  """Joint counts of 64 outcomes: three channels of four levels."""
  bits, count = 2, 20_000
  location = jnp.array([-0.8, 0.1, 0.4]).reshape(1, 1, 1, 3)
  log_scale = jnp.array([-1.0, -0.5, -1.5]).reshape(1, 1, 1, 3)
  logits = np.random.default_rng(0).normal(size=(1, 1, 1, 3, 4))
  # A logistic's mean is before rounding, a mixture's approximate besides.
  likelihood, atol = {
    "categorical": (Categorical(jnp.asarray(logits)), 1e-5),
    "logistic": (DiscretizedLogistic(location, log_scale, bits), 0.01),
    "mixture": (_mixture(bits, 3, 2), 0.03),
  }[name]
  outcomes = np.array(list(itertools.product(range(4), repeat=3)))
  image = _values(outcomes, bits).reshape(-1, 1, 1, 3)
  probability = np.exp(np.float64(_log_prob(_repeat(likelihood, 64), image)))
  assert probability.sum() == pytest.approx(1, abs=1e-5)
  wide = _repeat(likelihood, 1, count)
  key = jax.random.split(jax.random.key(0), 1)
  draws = np.asarray(jax.jit(lambda p, k: p.sample(k))(wide, key))
  assert set(np.unique(draws)) <= {0, 64, 128, 192}
  code = (draws.reshape(count, 3) // 64) @ [16, 4, 1]
  observed = np.bincount(code, minlength=64)
  probability /= probability.sum()
  assert stats.chisquare(observed, count * probability).pvalue > 1e-3
  mean = (probability[:, None] * outcomes).sum(0) * 64 / 255
  assert_allclose(likelihood.mean[0, 0, 0], mean, atol=atol)
