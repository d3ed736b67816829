"""All pictures: whole files, the same bytes, nothing cropped, clear errors."""

import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from tests.figures import pictures
from tests.figures.pictures import heat_map, metric_rows, random_images
from vae_jax import figures
from vae_jax.figures import png

_DRAWINGS = pictures.TILED | pictures.PLOTTED


@pytest.mark.parametrize("name", _DRAWINGS)
def test_file_holds_the_returned_pixels_whatever_the_thread(name, tmp_path):
  paths = [tmp_path / "new" / "folder" / f"{i}.png" for i in range(4)]
  picture = _DRAWINGS[name](paths[0])
  np.testing.assert_array_equal(png.to_array(Image.open(paths[0])), picture)
  assert list(paths[0].parent.iterdir()) == paths[:1]
  np.testing.assert_array_equal(_DRAWINGS[name](None), picture)
  with futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(_DRAWINGS[name], paths))
  assert len({path.read_bytes() for path in paths}) == 1


def test_failed_drawing_leaves_the_old_file_alone(tmp_path):
  path = tmp_path / "picture.png"
  path.write_bytes(b"old")
  with pytest.raises(ValueError, match="nothing to draw"):
    figures.loss_curves([{"step": 1, "split": "train"}], path)
  assert list(tmp_path.iterdir()) == [path]
  assert path.read_bytes() == b"old"


def test_failed_write_leaves_no_partial_file(tmp_path):
  path = tmp_path / "picture.png"
  path.mkdir()
  with pytest.raises(OSError):
    _grid(path=path)
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", pictures.PLOTTED)
def test_plot_is_not_cropped(name):
  picture = pictures.PLOTTED[name](None)
  assert picture.dtype == np.uint8 and picture.shape[2] == 3
  assert picture.min() < 64
  for border in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
    assert np.all(border == 255)


def _grid(n=2, c=3, **arguments):
  return figures.image_grid(random_images(n, c=c), **arguments)


def _strip(counts=(3, 3), c=3, **arguments):
  rows = [random_images(n, c=c) for n in counts]
  return figures.image_strip(rows, **arguments)


def _manifold(n):
  return figures.manifold(random_images(n), z1=[0.0, 1.0], z2=[0.0, 1.0])


def _two_classes(labels):
  codes = np.zeros((2, 2))
  return figures.latent_scatter(codes, labels, class_names=["a", "b"])


@pytest.mark.parametrize(
  "draw, message",
  [
    (lambda: _grid(0), r"images is uint8\[0, 5, 4, 3\]"),
    (lambda: _grid(c=2), "images has 2 channels"),
    (lambda: _grid(columns=0), "columns is 0"),
    (lambda: _grid(scale=0), "scale is 0"),
    (lambda: _manifold(5), r"images holds 5 images; allowed is .* 2 \* 2 = 4"),
    (
      lambda: figures.loss_curves(metric_rows(), steps_per_epoch=0),
      "steps_per_epoch is 0",
    ),
    (
      lambda: _two_classes(np.array([0, 2])),
      "labels of 'latent codes' is 0 to 2; allowed is 0 to 1",
    ),
    (lambda: heat_map(np.zeros((0, 2))), r"values is \[0, 2\]"),
    (lambda: heat_map(np.zeros((2, 2)), row_names=["a"]), "are 1 and 2 names"),
    (lambda: figures.rate_distortion({}, {}), "points is empty"),
    (lambda: figures.learning_curves({"a": []}), "nothing to draw"),
    (lambda: figures.image_panels([]), "no panel"),
    (lambda: _strip(()), "rows is empty"),
    (lambda: _strip((2, 3)), r"rows\[1\] is \[3, 5, 4"),
    (lambda: _strip((2,), c=2), r"rows\[0\] has 2 channels"),
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


def test_matplotlib_is_imported_with_the_first_plot_only():
  code = (
    "import sys, numpy as np; from vae_jax import figures;"
    "figures.image_grid(np.zeros((1, 2, 2, 1), np.uint8));"
    "assert 'matplotlib' not in sys.modules;"
    "figures.latent_scatter(np.zeros((1, 2)));"
    "assert 'matplotlib.pyplot' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
