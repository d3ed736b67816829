"""Ways between codes and quantiles of them, against closed forms."""

import numpy as np
import pytest
from scipy import stats

from vae_jax.latents import interpolation, quantiles


def code(*values):
  return np.array(values, np.float32)


T = np.linspace(0, 1, 9)


def test_the_straight_way():
  a, b = code(1, -2, 3), code(5, 2, -1)
  found = interpolation.linear(a, b, np.array([0, 0.25, 0.5, 1]))
  np.testing.assert_array_equal(
    found, [[1, -2, 3], [2, -1, 2], [3, 0, 1], [5, 2, -1]]
  )


def test_the_arc_between_codes_of_one_length():
  # From 10 to 130 degrees around the origin, at a distance of 3.
  degrees = 10 + 120 * T
  a, b = (
    code(*(3 * f(np.radians(v)) for f in (np.cos, np.sin))) for v in (10, 130)
  )
  found = interpolation.spherical(a, b, T)
  np.testing.assert_allclose(
    found,
    3 * np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1),
    atol=1e-5,
  )


def test_the_arc_between_codes_of_two_lengths():
  # At a right angle the weights are cos(t pi / 2) and sin(t pi / 2).
  found = interpolation.spherical(code(2, 0, 0), code(0, 0, 5), T)
  quarter = T * np.pi / 2
  expected = np.stack([2 * np.cos(quarter), 0 * T, 5 * np.sin(quarter)], 1)
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("way", [interpolation.linear, interpolation.spherical])
@pytest.mark.parametrize("d", [1, 2, 7, 300])
def test_the_ends_are_exact(way, d):
  rng = np.random.default_rng(d)
  for _ in range(20):
    a, b = rng.normal(size=(2, d)).astype(np.float32)
    found = way(a, b, T)
    assert found.dtype == np.float32 and found.shape == (9, d)
    np.testing.assert_array_equal(found[0], a)
    np.testing.assert_array_equal(found[-1], b)
    backwards = way(b, a, 1 - T)
    np.testing.assert_allclose(found, backwards, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "a, b",
  [
    (code(0, 0), code(3, 4)),
    (code(3, 4), code(0, 0)),
    (code(0, 0), code(0, 0)),
    (code(3, 4), code(3, 4)),
    (code(1, 2), code(2, 4)),
    (code(1, 1), code(1, 1 + 1e-7)),
    (code(1, 2), code(-1, -2)),
  ],
)
def test_without_an_arc_the_way_is_straight(a, b):
  found = interpolation.spherical(a, b, T)
  np.testing.assert_array_equal(found, interpolation.linear(a, b, T))


def test_narrow_arcs_are_close_to_straight():
  a, b = code(100, 0), code(100, 0.01)
  found = interpolation.spherical(a, b, T)
  np.testing.assert_allclose(found, interpolation.linear(a, b, T), atol=1e-4)


def test_quantiles_of_codes():
  codes = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
  codes = np.stack([codes, 5 - 2 * codes], axis=1).astype(np.float32)
  np.random.default_rng(0).shuffle(codes)
  found = quantiles.aggregate_quantiles(codes, 9)
  normal = quantiles.prior_quantiles(9)
  np.testing.assert_allclose(found, [normal, 5 + 2 * normal], atol=1e-3)
