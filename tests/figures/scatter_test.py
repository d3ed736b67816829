"""Scatter plots: points have the colors of their labels."""

import numpy as np
import pytest

from vae_jax import figures


def test_latent_scatter_colors_points_by_class():
  codes = np.array([[-1.5, -1.5], [1.5, 1.5]], np.float32)
  blue, orange = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
  first = figures.latent_scatter(codes, np.array([3, 8]))
  second = figures.latent_scatter(codes, np.array([8, 3]))
  # Points are translucent: their color on white.
  where = []
  for picture in (first, second):
    center = []
    for color in (blue, orange):
      mixed = 0.7 * np.array(color) + 0.3 * 255
      near = np.abs(picture - mixed).max(axis=-1) <= 2
      center.append(np.argwhere(near).mean(axis=0))
    where.append(center)
  (blue1, orange1), (blue2, orange2) = where
  np.testing.assert_allclose(blue1, orange2, atol=1)
  np.testing.assert_allclose(orange1, blue2, atol=1)
  # The first point lies lower left, and rows count from the top.
  assert blue1[0] > orange1[0] and blue1[1] < orange1[1]


def test_latent_scatter_draws_codes_that_are_unlabeled_or_nan():
  codes = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
  codes[3] = np.nan
  assert figures.latent_scatter(codes).shape == (800, 1000, 3)


def test_scatter_colors_points_by_label():
  points = np.float32([[0, 0], [1, 1]])
  names = ("no", "yes")

  def draw(labels):
    coloring = figures.Coloring("a", np.array(labels), names)
    return figures.scatter(
      points, [coloring], title="t", x_label="x", y_label="y"
    )

  picture = draw([0, 1])
  # One point in the left half of the axes, one in the right.
  blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60
  orange = (picture[..., 0].astype(int) - picture[..., 2]) > 60
  width = picture.shape[1]
  left = lambda hit: hit[:, : width // 3].sum()  # noqa: E731
  assert left(blue) > 0 and left(orange) == 0
  turned = draw([1, 0])
  assert left((turned[..., 0].astype(int) - turned[..., 2]) > 60) > 0
  with pytest.raises(ValueError, match="one for each name"):
    draw([0, 2])
