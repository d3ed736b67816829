"""All pictures: whole files, the same bytes, nothing cropped, clear errors."""

import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from tests.figures.pictures import (
  PLOTTED,
  TILED,
  heat_map,
  metric_rows,
  random_images,
)
from vae_jax import figures
from vae_jax.figures import png

_DRAWINGS = TILED | PLOTTED


@pytest.mark.parametrize("name", _DRAWINGS)
def test_file_holds_the_returned_pixels(name, tmp_path):
  path = tmp_path / "new" / "folder" / "picture.png"
  picture = _DRAWINGS[name](path)
  np.testing.assert_array_equal(png.to_array(Image.open(path)), picture)
  assert [p.name for p in path.parent.iterdir()] == ["picture.png"]
  np.testing.assert_array_equal(_DRAWINGS[name](None), picture)


@pytest.mark.parametrize("name", _DRAWINGS)
def test_same_arrays_give_the_same_bytes_in_any_thread(name, tmp_path):
  paths = [tmp_path / f"{i}.png" for i in range(4)]
  with futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(_DRAWINGS[name], paths))
  assert len({path.read_bytes() for path in paths}) == 1


def test_failed_drawing_leaves_the_old_file_alone(tmp_path):
  path = tmp_path / "picture.png"
  path.write_bytes(b"old")
  with pytest.raises(ValueError, match="nothing to draw"):
    figures.loss_curves([{"step": 1, "split": "train"}], path)
  assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
  assert path.read_bytes() == b"old"


def test_failed_write_leaves_no_partial_file(tmp_path):
  path = tmp_path / "picture.png"
  path.mkdir()
  with pytest.raises(OSError):
    figures.image_grid(random_images(2), path)
  assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("name", PLOTTED)
def test_plot_is_not_cropped(name):
  picture = PLOTTED[name](None)
  assert picture.dtype == np.uint8 and picture.shape[2] == 3
  assert picture.min() < 64
  for border in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
    assert np.all(border == 255)


@pytest.mark.parametrize(
  "draw, message",
  [
    (
      lambda: figures.image_grid(random_images(0)),
      r"images is uint8\[0, 5, 4, 3\]",
    ),
    (
      lambda: figures.image_grid(random_images(2, c=2)),
      "images has 2 channels",
    ),
    (lambda: figures.image_grid(random_images(2), columns=0), "columns is 0"),
    (lambda: figures.image_grid(random_images(2), scale=0), "scale is 0"),
    (
      lambda: figures.manifold(random_images(5), z1=[0.0, 1.0], z2=[0.0, 1.0]),
      r"images holds 5 images; allowed is .* 2 \* 2 = 4",
    ),
    (
      lambda: figures.loss_curves(metric_rows(), steps_per_epoch=0),
      "steps_per_epoch is 0",
    ),
    (
      lambda: figures.latent_scatter(
        np.zeros((2, 2)), np.array([0, 2]), class_names=["a", "b"]
      ),
      "labels of 'latent codes' is 0 to 2; allowed is 0 to 1",
    ),
    (lambda: heat_map(np.zeros((0, 2))), r"values is \[0, 2\]"),
    (lambda: heat_map(np.zeros((2, 2)), row_names=["a"]), "are 1 and 2 names"),
    (lambda: figures.rate_distortion({}, {}), "points is empty"),
    (lambda: figures.learning_curves({"a": []}), "nothing to draw"),
    (lambda: figures.image_strip([]), "rows is empty"),
    (
      lambda: figures.image_strip([random_images(2), random_images(3)]),
      r"rows\[1\] is \[3, 5, 4",
    ),
    (
      lambda: figures.image_strip([random_images(2, c=2)]),
      r"rows\[0\] has 2 channels",
    ),
    (lambda: _strip(row_labels=["a"]), "row_labels are 1; allowed is 2"),
    (lambda: _strip(column_labels=["a"]), "column_labels are 1; allowed is 3"),
    (lambda: _strip(leading=4), "leading is 4"),
    (lambda: _strip(groups=[1]), "groups is .1.; allowed"),
    (lambda: _strip(groups=[2, 0]), "groups is .2, 0."),
    (lambda: _strip(scale=0), "scale is 0"),
  ],
)
def test_wrong_input_raises_an_error_that_names_it(draw, message):
  with pytest.raises(ValueError, match=message):
    draw()


def _strip(**arguments):
  return figures.image_strip([random_images(3)] * 2, **arguments)


def test_matplotlib_is_imported_with_the_first_plot_only():
  code = (
    "import sys, numpy as np; from vae_jax import figures;"
    "figures.image_grid(np.zeros((1, 2, 2, 1), np.uint8));"
    "assert 'matplotlib' not in sys.modules;"
    "figures.latent_scatter(np.zeros((1, 2)));"
    "assert 'matplotlib.pyplot' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
