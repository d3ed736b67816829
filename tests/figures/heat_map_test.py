"""Heat maps: cells have the colors of their values."""

import matplotlib
import numpy as np
import pytest

from tests.figures.pictures import heat_map


def test_cells_have_the_colors_of_their_values():
  values = np.array([[0.0, 0.25], [0.5, 1.0]])
  picture = heat_map(values, limit=2.0)
  centers = {}
  for (i, j), value in np.ndenumerate(values):
    color = matplotlib.colormaps["Blues"](value / 2.0, bytes=True)[:3]
    inside = picture[:, : picture.shape[1] * 3 // 4] == color
    places = np.argwhere(inside.all(axis=-1))
    assert len(places) > 500
    centers[i, j] = np.median(places, axis=0)
  assert centers[0, 0][0] == pytest.approx(centers[0, 1][0], abs=3)
  assert centers[0, 0][1] + 50 < centers[0, 1][1]
  assert centers[0, 0][0] + 20 < centers[1, 0][0]
  assert centers[1, 0][1] + 50 < centers[1, 1][1]
  # Without a limit the largest value is the darkest.
  np.testing.assert_array_equal(heat_map(values, limit=1.0), heat_map(values))


def test_zeros_and_nan_can_be_drawn():
  assert heat_map(np.zeros((3, 2))).min() < 64
  assert heat_map(np.full((3, 2), np.nan)).min() < 64
