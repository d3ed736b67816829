"""Paths between codes against closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vae_jax.latents import interpolation


def code(*values):
  return np.array(values, np.float32)


T = np.linspace(0, 1, 9)


def test_linear_path_is_a_line():
  a, b = code(1, -2, 3), code(5, 2, -1)
  codes = interpolation.linear(a, b, np.array([0, 0.25, 0.5, 1]))
  assert_array_equal(codes, [[1, -2, 3], [2, -1, 2], [3, 0, 1], [5, 2, -1]])


def test_spherical_path_of_equal_lengths_is_an_arc():
  # From 10 to 130 degrees around the origin, at a distance of 3.
  degrees = 10 + 120 * T
  a, b = (
    code(*(3 * f(np.radians(v)) for f in (np.cos, np.sin))) for v in (10, 130)
  )
  codes = interpolation.spherical(a, b, T)
  assert_allclose(
    codes,
    3 * np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1),
    atol=1e-5,
  )


def test_spherical_path_changes_length():
  # At a right angle the weights are cos(t pi / 2) and sin(t pi / 2).
  codes = interpolation.spherical(code(2, 0, 0), code(0, 0, 5), T)
  quarter = T * np.pi / 2
  expected = np.stack([2 * np.cos(quarter), 0 * T, 5 * np.sin(quarter)], 1)
  assert_allclose(codes, expected, atol=1e-6)


@pytest.mark.parametrize(
  "path", [interpolation.linear, interpolation.spherical]
)
@pytest.mark.parametrize("d", [1, 2, 7, 300])
def test_paths_begin_and_end_exactly(path, d):
  rng = np.random.default_rng(d)
  for _ in range(20):
    a, b = rng.normal(size=(2, d)).astype(np.float32)
    codes = path(a, b, T)
    assert codes.dtype == np.float32 and codes.shape == (9, d)
    assert_array_equal(codes[0], a)
    assert_array_equal(codes[-1], b)
    backwards = path(b, a, 1 - T)
    assert_allclose(codes, backwards, rtol=1e-5, atol=1e-6)


ENDS = [(0, 0, 3, 4), (3, 4, 0, 0), (0, 0, 0, 0), (3, 4, 3, 4), (1, 2, 2, 4)]
ENDS += [(1, 1, 1, 1 + 1e-7), (1, 2, -1, -2)]


@pytest.mark.parametrize("ends", ENDS)
def test_spherical_path_without_an_arc_is_linear(ends):
  a, b = code(*ends[:2]), code(*ends[2:])
  codes = interpolation.spherical(a, b, T)
  assert_array_equal(codes, interpolation.linear(a, b, T))


def test_narrow_arc_is_close_to_linear():
  a, b = code(100, 0), code(100, 0.01)
  codes = interpolation.spherical(a, b, T)
  assert_allclose(codes, interpolation.linear(a, b, T), atol=1e-4)
