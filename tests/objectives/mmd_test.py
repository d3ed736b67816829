"""The MMD against double loops, on average, and in any dimension."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import SHAPE, batch_of, distance_of
from vae_jax.objectives import mmd
from vae_jax.runtime import devices as parallel

SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)
each_kernel = pytest.mark.parametrize("kernel", ["imq", "rbf"])


def kernel_by_hand(x, y, kernel):
  square, base = ((x - y) ** 2).sum(), 2 * len(x)
  if kernel == "imq":
    return sum(base * s / (base * s + square) for s in SCALES)
  # 2 sigma^2 = base * s.
  return sum(np.exp(-square / (base * s)) for s in SCALES)


@each_kernel
def test_mmd_equals_double_loops(kernel):
  distance = functools.partial(mmd.mmd, kernel=kernel)
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 3)) + 1, rng.normal(size=(8, 3))
  mask = ~np.isin(np.arange(8), [1, 5])
  parts = distance_of(distance, z, p, mask)
  k = functools.partial(kernel_by_hand, kernel=kernel)
  codes, drawn = z[mask], p[mask]
  n, expected = len(codes), 0
  for i, j in np.ndindex(n, n):
    if i != j:
      same = k(codes[i], codes[j]) + k(drawn[i], drawn[j])
      expected += same / (n * (n - 1))
    expected -= 2 * k(codes[i], drawn[j]) / n**2
  np.testing.assert_allclose(parts[mask].mean(), expected, rtol=1e-4)
  assert np.isfinite(parts).all()
  one = distance_of(distance, z, p, np.arange(8) == 2)
  np.testing.assert_allclose(one[2], -2 * k(z[2], p[2]), rtol=1e-5)


@each_kernel
def test_mmd_is_zero_on_average_for_equal_distributions(kernel):
  rng = np.random.default_rng(0)
  draws = rng.normal(size=(2, 200, 16, 4))
  batch = batch_of(np.zeros((16, *SHAPE)))

  def run(z, prior_z):
    part = functools.partial(mmd.mmd, batch, kernel=kernel)
    mapped = jax.vmap(part, axis_name=parallel.AXIS)
    return mapped(z[None], prior_z[None]).mean()

  run = jax.jit(jax.vmap(run))
  same = np.asarray(run(*jnp.float32(draws)))
  assert abs(same.mean()) < 4 * same.std() / np.sqrt(200)
  apart = np.asarray(run(jnp.float32(draws[0]) + 1, jnp.float32(draws[1])))
  assert apart.mean() > 20 * same.std() / np.sqrt(200)


@pytest.mark.parametrize("d", [2, 32])
@each_kernel
def test_kernels_have_one_scale_in_any_dimension(kernel, d):
  origin, ones = jnp.zeros((1, d)), jnp.ones((1, d))
  value = functools.partial(mmd.kernel_values, origin, kernel=kernel)
  np.testing.assert_allclose(value(origin), [[7]], rtol=1e-6)
  near = (7 - value(0.01 * ones)) / (0.5 * 0.01**2)
  np.testing.assert_allclose(near, [[sum(1 / s for s in SCALES)]], rtol=0.1)
  # |x - y|^2 = 2 d, the mean over pairs of prior draws: r = 1.
  one = {"imq": lambda s: s / (s + 1), "rbf": lambda s: np.exp(-1 / s)}[kernel]
  far = value(np.sqrt(2) * ones)
  np.testing.assert_allclose(far, [[sum(map(one, SCALES))]], rtol=1e-5)
