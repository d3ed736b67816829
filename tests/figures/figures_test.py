"""Figures: exact pixels, whole files, legible plots."""

import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from vae_jax import figures
from vae_jax.figures import canvas, learning_curves, png


def _images(n, h=5, w=4, c=3, seed=0):
  shape = (n, h, w, c)
  # Never white, so that white pixels are known to be background.
  return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def _rows(n=200):
  rng = np.random.default_rng(0)
  rows = []
  for step in range(n):
    rate = 20 + rng.normal()
    distortion = 80 + 500 * np.exp(-step / 3) + rng.normal()
    terms = {"distortion": distortion, "rate": rate}
    terms |= {"neg_elbo": distortion + rate, "loss": distortion + rate}
    rows.append({"step": step, "split": "train"} | terms)
    if step % 50 == 0:
      rows.append({"step": step, "split": "validation"} | terms)
  return rows


def _codes(n=60):
  return np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)


_DRAWINGS = {
  "image_grid": lambda path: figures.image_grid(_images(7), path),
  "image_grid grey": lambda path: figures.image_grid(_images(7, c=1), path),
  "reconstruction_grid": lambda path: figures.reconstruction_grid(
    _images(7), _images(7, seed=1), path, columns=4
  ),
  "reconstruction_grid grey": lambda path: figures.reconstruction_grid(
    _images(7, c=1), _images(7, c=1, seed=1), path
  ),
  "manifold": lambda path: figures.manifold(
    _images(6), path, z1=[-1.0, 0.0, 1.0], z2=[1.0, -1.0]
  ),
  "loss_curves": lambda path: figures.loss_curves(
    _rows(), path, steps_per_epoch=20
  ),
  "latent_scatter": lambda path: figures.latent_scatter(
    _codes(), np.arange(60) % 10, path
  ),
}


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_image_grid_places_every_pixel(c, scale):
  images = _images(5, c=c)
  grid = figures.image_grid(images, columns=3, scale=scale)
  gap, h, w = 2, 5 * scale, 4 * scale
  expected = np.full((2 * h + 3 * gap, 3 * w + 4 * gap, c), 255, np.uint8)
  for i, image in enumerate(images):
    for y in range(h):
      for x in range(w):
        top, left = gap + i // 3 * (h + gap), gap + i % 3 * (w + gap)
        expected[top + y, left + x] = image[y // scale, x // scale]
  np.testing.assert_array_equal(grid, expected)


@pytest.mark.parametrize(
  "n, size, columns", [(100, 28, 10), (100, 32, 10), (4, 64, 2), (3, 28, 3)]
)
def test_default_scale_fills_the_width(n, size, columns):
  grid = figures.image_grid(_images(n, size, size), columns=columns)
  assert 800 <= grid.shape[1] <= 1200


def test_images_larger_than_the_grid_keep_their_size():
  grid = figures.image_grid(_images(2, 8, 900), columns=2)
  assert grid.shape == (8 + 4, 2 * 900 + 6, 3)


@pytest.mark.parametrize("c", [1, 3])
def test_reconstruction_grid_pairs_rows(c):
  originals, reconstructions = _images(5, 20, 20, c), _images(5, 20, 20, c, 1)
  grid = figures.reconstruction_grid(
    originals, reconstructions, columns=3, scale=1
  )
  margin = grid.shape[1] - (3 * 22 + 2)
  assert grid.shape == (2 * (2 * 22 + 2) + 8, grid.shape[1], c)
  assert margin > 0
  for i in range(5):
    top, left = 2 + i // 3 * (2 * 22 + 2 + 8), margin + 2 + i % 3 * 22
    pair = grid[top : top + 42, left : left + 20]
    np.testing.assert_array_equal(pair[:20], originals[i])
    np.testing.assert_array_equal(pair[20:22], 255)
    np.testing.assert_array_equal(pair[22:], reconstructions[i])
  # The cell without an image is blank; each row has its label, uncut.
  assert np.all(grid[-46:, margin + 2 + 2 * 22 :] == 255)
  for top in (2, 24, 56, 78):
    assert grid[top : top + 20, :margin].min() < 64
  assert np.all(grid[:, :4] == 255)
  assert np.all(grid[:, margin - 4 : margin] == 255)


@pytest.mark.parametrize("c", [1, 3])
def test_manifold_is_gapless_and_labelled(c):
  images = _images(6, 40, 60, c)
  picture = figures.manifold(
    images, z1=[-1.0, 0.0, 1.0], z2=[1.0, -1.0], scale=1
  )
  rows = images.reshape(2, 3, 40, 60, c)
  grid = np.concatenate([np.concatenate(list(r), axis=1) for r in rows])
  top = 14
  window = np.lib.stride_tricks.sliding_window_view(
    picture, grid.shape, axis=(0, 1, 2)
  )[top, :, 0]
  (left,) = np.flatnonzero((window == grid).all(axis=(1, 2, 3)))
  bottom, right = top + 80, left + 180
  # Ticks stand at the middle of each image.
  ticks = picture[bottom : bottom + 6, left:right, 0]
  np.testing.assert_array_equal(
    np.flatnonzero((ticks == 0).all(axis=0)), [30, 90, 150]
  )
  ticks = picture[top:bottom, left - 6 : left, 0]
  np.testing.assert_array_equal(
    np.flatnonzero((ticks == 0).all(axis=1)), [20, 60]
  )
  for border in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
    assert np.all(border == 255)


def test_manifold_leaves_out_labels_that_do_not_fit():
  z = np.linspace(-2, 2, 30)
  picture = figures.manifold(_images(900, 8, 8, 1), z1=z, z2=z, scale=1)
  below = picture[14 + 240 : 14 + 240 + 6, :, 0]
  ticks = np.flatnonzero((below == 0).all(axis=0))
  assert 2 <= len(ticks) < 10
  assert np.diff(ticks).min() >= 32


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
    figures.image_grid(_images(2), path)
  assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_loss_curves_skip_what_is_missing():
  rows = _rows()
  holes = [
    {"step": 7, "split": "train", "neg_elbo": None, "loss": None},
    {"step": 8, "split": "train", "rate": float("nan")},
    {"step": None, "split": "train", "rate": 1e9},
    {"split": "validation", "rate": 1e9},
    {"step": 9, "split": "test", "rate": 1e9},
    {"step": 9, "rate": 1e9},
    {},
  ]
  np.testing.assert_array_equal(
    figures.loss_curves(rows + holes), figures.loss_curves(rows)
  )


@pytest.mark.parametrize("steps_per_epoch", [None, 0.5, 468.75])
@pytest.mark.parametrize(
  "rows",
  [
    [{"step": 3, "split": "train", "loss": 1.0}],
    [{"step": 3, "split": "validation", "neg_elbo": 1.0, "loss": 2.0}],
    [{"step": i, "split": "train", "rate": 0.0} for i in range(50)],
  ],
)
def test_loss_curves_of_little(rows, steps_per_epoch):
  picture = figures.loss_curves(rows, steps_per_epoch=steps_per_epoch)
  assert picture.min() < 64


def test_loss_is_drawn_only_where_it_differs():
  orange = np.array([0xC2, 0x59, 0x0C])
  rows = _rows()
  weighted = [row | {"loss": row["loss"] + 3 * row["rate"]} for row in rows]
  assert not np.any(np.all(figures.loss_curves(rows) == orange, axis=-1))
  assert np.any(np.all(figures.loss_curves(weighted) == orange, axis=-1))


@pytest.mark.parametrize("n", [40, 10_000])
def test_limits_hold_the_curve_and_not_its_outliers(n):
  step = np.arange(n, dtype=np.float64)
  value = 100 + np.sin(step)
  value[: n // 20] = 1e6
  value[n // 2] = 1e9
  low, high = canvas.robust_limits([np.stack([step, value])])
  assert 98 < low < 99.1
  assert 100.9 < high < 120


def test_limits_ignore_the_first_steps_of_a_constant():
  value = np.full(100, 2.0)
  value[:5] = 1e6
  low, high = canvas.robust_limits([np.stack([np.arange(100.0), value])])
  assert 1.5 < low < 2 < high < 2.5


def test_limits_hold_every_curve():
  step = np.arange(100.0)
  curves = [np.stack([step, step]), np.array([[50.0], [200.0]])]
  low, high = canvas.robust_limits(curves)
  assert low < 6 and high > 200


def test_running_mean_is_centred_and_shrinks_at_the_ends():
  values = np.random.default_rng(0).normal(size=100)
  mean = learning_curves._running_mean(values, (-9.0, 9.0))
  expected = [values[max(i - 2, 0) : i + 3].mean() for i in range(100)]
  np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_running_mean_survives_an_exploding_step():
  values = np.full(1000, 100.0)
  values[500] = 1e30
  mean = learning_curves._running_mean(values, (99.0, 101.0))
  np.testing.assert_allclose(mean, 100, atol=0.1)


@pytest.mark.parametrize("classes", [1, 10, 17, 40])
def test_classes_have_distinct_colors(classes):
  assert len(np.unique(canvas.palette(classes), axis=0)) == classes


def test_latent_scatter_colors_points_by_class():
  codes = np.array([[-1.5, -1.5], [1.5, 1.5]], np.float32)
  blue, orange = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)
  first = figures.latent_scatter(codes, np.array([3, 8]))
  second = figures.latent_scatter(codes, np.array([8, 3]))
  # Points are translucent: their colour on white.
  where = []
  for picture in (first, second):
    centre = []
    for color in (blue, orange):
      mixed = 0.7 * np.array(color) + 0.3 * 255
      near = np.abs(picture - mixed).max(axis=-1) <= 2
      centre.append(np.argwhere(near).mean(axis=0))
    where.append(centre)
  (blue1, orange1), (blue2, orange2) = where
  np.testing.assert_allclose(blue1, orange2, atol=1)
  np.testing.assert_allclose(orange1, blue2, atol=1)
  # The first point lies lower left, and rows count from the top.
  assert blue1[0] > orange1[0] and blue1[1] < orange1[1]


def test_latent_scatter_without_labels_and_with_a_broken_code():
  codes = _codes()
  codes[3] = np.nan
  assert figures.latent_scatter(codes).shape == (800, 1000, 3)


@pytest.mark.parametrize(
  "draw, message",
  [
    (lambda: figures.image_grid(_images(0)), r"images is uint8\[0, 5, 4, 3\]"),
    (lambda: figures.image_grid(_images(2, c=2)), "images has 2 channels"),
    (lambda: figures.image_grid(_images(2), columns=0), "columns is 0"),
    (lambda: figures.image_grid(_images(2), scale=0), "scale is 0"),
    (
      lambda: figures.manifold(_images(5), z1=[0.0, 1.0], z2=[0.0, 1.0]),
      r"images holds 5 images; allowed is .* 2 \* 2 = 4",
    ),
    (
      lambda: figures.loss_curves(_rows(), steps_per_epoch=0),
      "steps_per_epoch is 0",
    ),
    (
      lambda: figures.latent_scatter(
        _codes(2), np.array([0, 2]), class_names=["a", "b"]
      ),
      r"labels holds 2; allowed is 0\.\.1",
    ),
  ],
)
def test_wrong_input_gets_one_sentence(draw, message):
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
