"""Heat maps: colours that mean their values, names that can be read."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vae_jax import figures
from vae_jax.figures import png


def _names(n, letter="z"):
  return [f"{letter}{i}" for i in range(n)]


def _draw(values, path=None, **changes):
  rows, columns = values.shape
  arguments = {
    "row_names": _names(rows),
    "column_names": _names(columns, "a_long_name_of_factor_"),
    "title": "information, nats",
    **changes,
  }
  return figures.heat_map(values, path, **arguments)


@pytest.mark.parametrize("shape", [(1, 1), (10, 5), (16, 32), (100, 8)])
def test_nothing_is_cropped(shape):
  picture = _draw(np.random.default_rng(0).random(shape))
  assert picture.dtype == np.uint8 and picture.shape[2] == 3
  for border in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
    assert np.all(border == 255)


def test_cells_have_the_colours_of_their_values():
  values = np.array([[0.0, 0.25], [0.5, 1.0]])
  picture = _draw(values, limit=2.0)
  centres = {}
  for (i, j), value in np.ndenumerate(values):
    color = matplotlib.colormaps["Blues"](value / 2.0, bytes=True)[:3]
    inside = picture[:, : picture.shape[1] * 3 // 4] == color
    places = np.argwhere(inside.all(axis=-1))
    assert len(places) > 500
    centres[i, j] = np.median(places, axis=0)
  assert centres[0, 0][0] == pytest.approx(centres[0, 1][0], abs=3)
  assert centres[0, 0][1] + 50 < centres[0, 1][1]
  assert centres[0, 0][0] + 20 < centres[1, 0][0]
  assert centres[1, 0][1] + 50 < centres[1, 1][1]
  # Without a limit the largest value is the darkest.
  np.testing.assert_array_equal(_draw(values, limit=1.0), _draw(values))


def test_zeros_and_broken_values_can_be_drawn():
  assert _draw(np.zeros((3, 2))).min() < 64
  assert _draw(np.full((3, 2), np.nan)).min() < 64


def test_file_holds_the_returned_pixels(tmp_path):
  values = np.random.default_rng(0).random((4, 3))
  paths = [tmp_path / "new" / f"{i}.png" for i in range(2)]
  for path in paths:
    picture = _draw(values, path)
  np.testing.assert_array_equal(png.to_array(Image.open(paths[0])), picture)
  assert paths[0].read_bytes() == paths[1].read_bytes()
  assert len(list((tmp_path / "new").iterdir())) == 2


@pytest.mark.parametrize(
  "values, changes, message",
  [
    (np.zeros((0, 2)), {}, r"values is \[0, 2\]"),
    (np.zeros((2, 2)), {"row_names": ["a"]}, "are 1 and 2 names"),
  ],
)
def test_wrong_input_gets_one_sentence(values, changes, message):
  with pytest.raises(ValueError, match=message):
    _draw(values, **changes)
