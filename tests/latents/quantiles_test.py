"""Quantiles and grids against closed forms."""

import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from vae_jax.latents import quantiles


def test_aggregate_quantiles_of_normal_codes_are_normal():
  codes = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
  codes = np.stack([codes, 5 - 2 * codes], axis=1).astype(np.float32)
  np.random.default_rng(0).shuffle(codes)
  aggregate = quantiles.aggregate_quantiles(codes, 9)
  normal = quantiles.prior_quantiles(9)
  assert_allclose(aggregate, [normal, 5 + 2 * normal], atol=1e-3)


def test_prior_quantiles_divide_probability_equally():
  ticks = quantiles.prior_quantiles(4)
  expected = [-1.15035, -0.31864, 0.31864, 1.15035]
  assert_allclose(ticks, expected, atol=1e-4)
  grid = quantiles.grid(ticks, ticks)
  assert_allclose(grid[0], [ticks[0], ticks[3]], atol=1e-6)
  assert_allclose(grid[1], [ticks[1], ticks[3]], atol=1e-6)
  assert_allclose(grid[-1], [ticks[3], ticks[0]], atol=1e-6)
