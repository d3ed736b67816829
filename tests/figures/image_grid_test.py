"""Grids and panels: every pixel in its place, uncropped labels."""

import numpy as np
import pytest

from tests.figures.pictures import random_images
from vae_jax import figures


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_image_grid_places_every_pixel(c, scale):
  images = random_images(5, c=c)
  grid = figures.image_grid(images, columns=3, scale=scale)
  gap, h, w = 2, 5 * scale, 4 * scale
  expected = np.full((2 * h + 3 * gap, 3 * w + 4 * gap, c), 255, np.uint8)
  for i, image in enumerate(images):
    top, left = gap + i // 3 * (h + gap), gap + i % 3 * (w + gap)
    large = image.repeat(scale, 0).repeat(scale, 1)
    expected[top : top + h, left : left + w] = large
  np.testing.assert_array_equal(grid, expected)


def test_title_is_above_the_grid():
  images = random_images(5)
  grid = figures.image_grid(images, columns=3, scale=1)
  picture = figures.image_grid(images, columns=3, scale=1, title="wider, wider")
  above = picture.shape[0] - grid.shape[0]
  np.testing.assert_array_equal(picture[above:, : grid.shape[1]], grid)
  assert picture[:above, grid.shape[1] :].min() < 50
  assert (picture[above:, grid.shape[1] :] == 255).all()


def test_default_scale_fills_the_width():
  for n, size, columns in (
    (100, 28, 10),
    (100, 32, 10),
    (4, 64, 2),
    (3, 28, 3),
  ):
    grid = figures.image_grid(random_images(n, size, size), columns=columns)
    assert 800 <= grid.shape[1] <= 1200
  # Larger images keep their size.
  grid = figures.image_grid(random_images(2, 8, 900), columns=2)
  assert grid.shape == (8 + 4, 2 * 900 + 6, 3)


@pytest.mark.parametrize("c", [1, 3])
def test_reconstruction_grid_pairs_rows(c):
  pairs = [random_images(5, 20, 20, c, seed) for seed in (0, 1)]
  grid = figures.reconstruction_grid(*pairs, columns=3, scale=1)
  margin = grid.shape[1] - (3 * 22 + 2)
  assert grid.shape == (2 * (2 * 22 + 2) + 8, grid.shape[1], c)
  assert margin > 0
  for i in range(5):
    top, left = 2 + i // 3 * (2 * 22 + 2 + 8), margin + 2 + i % 3 * 22
    pair = grid[top : top + 42, left : left + 20]
    np.testing.assert_array_equal(pair[:20], pairs[0][i])
    np.testing.assert_array_equal(pair[20:22], 255)
    np.testing.assert_array_equal(pair[22:], pairs[1][i])
  # The cell without an image is blank; each row has its label, uncut.
  assert np.all(grid[-46:, margin + 2 + 2 * 22 :] == 255)
  for top in (2, 24, 56, 78):
    assert grid[top : top + 20, :margin].min() < 64
  assert np.all(grid[:, :4] == 255)
  assert np.all(grid[:, margin - 4 : margin] == 255)


@pytest.mark.parametrize("c", [1, 3])
def test_manifold_is_gapless_and_labeled(c):
  images = random_images(6, 40, 60, c)
  z1, z2 = [-1.0, 0.0, 1.0], [1.0, -1.0]
  picture = figures.manifold(images, z1=z1, z2=z2, scale=1)
  grid = images.reshape(2, 3, 40, 60, c).swapaxes(1, 2).reshape(80, 180, c)
  top = 14
  windows = np.lib.stride_tricks.sliding_window_view(picture, grid.shape)
  (left,) = np.flatnonzero((windows[top, :, 0] == grid).all(axis=(1, 2, 3)))
  bottom, right = top + 80, left + 180
  # Ticks stand at the middle of each image.
  ticks = (picture[bottom : bottom + 6, left:right, 0] == 0).all(axis=0)
  assert np.flatnonzero(ticks).tolist() == [30, 90, 150]
  ticks = (picture[top:bottom, left - 6 : left, 0] == 0).all(axis=1)
  assert np.flatnonzero(ticks).tolist() == [20, 60]
  for border in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
    assert np.all(border == 255)


def test_manifold_leaves_out_labels_that_do_not_fit():
  z = np.linspace(-2, 2, 30)
  picture = figures.manifold(random_images(900, 8, 8, 1), z1=z, z2=z, scale=1)
  below = picture[14 + 240 : 14 + 240 + 6, :, 0]
  ticks = np.flatnonzero((below == 0).all(axis=0))
  assert 2 <= len(ticks) < 10
  assert np.diff(ticks).min() >= 32


def test_panels_hold_their_images_under_their_titles():
  gray = np.full((4, 5, 6, 1), 100, np.uint8)
  red = np.zeros((2, 5, 6, 3), np.uint8)
  red[..., 0] = 200
  above = [figures.Panel("gray", gray, 2), figures.Panel("red", red, 2)]
  below = [figures.Panel("a title wider than its images", gray, 4)]
  picture = figures.image_panels([above, below], scale=2)
  assert (picture == (200, 0, 0)).all(axis=-1).sum() == 2 * 5 * 6 * 4
  assert (picture == 100).all(axis=-1).sum() >= 8 * 5 * 6 * 4
  # Each title is written above its own panel, in black.
  half = picture.shape[1] // 2
  top = (picture[16:36] < 50).all(axis=-1)
  assert top[:, :half].any()
  assert not (picture[:16] < 255).any() and not (picture[-16:] < 255).any()
