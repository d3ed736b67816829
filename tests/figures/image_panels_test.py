"""Panels: images under their titles."""

import numpy as np
import pytest

from vae_jax import figures


def test_panels_hold_their_images_under_their_titles():
  gray = np.full((4, 5, 6, 1), 100, np.uint8)
  red = np.zeros((2, 5, 6, 3), np.uint8)
  red[..., 0] = 200
  picture = figures.image_panels(
    [
      [figures.Panel("gray", gray, 2), figures.Panel("red", red, 2)],
      [figures.Panel("a title wider than its images", gray, 4)],
    ],
    scale=2,
  )
  assert (picture == (200, 0, 0)).all(axis=-1).sum() == 2 * 5 * 6 * 4
  assert (picture == 100).all(axis=-1).sum() >= 8 * 5 * 6 * 4
  # Each title is written above its own panel, in black.
  half = picture.shape[1] // 2
  top = (picture[16:36] < 50).all(axis=-1)
  assert top[:, :half].any()
  assert not (picture[:16] < 255).any() and not (picture[-16:] < 255).any()
  with pytest.raises(ValueError, match="no panel"):
    figures.image_panels([])
