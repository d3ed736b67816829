"""Plots: limits of y, missing values, and colors of values and labels."""

import matplotlib
import numpy as np
import pytest

from tests.figures.pictures import heat_map, metric_rows
from vae_jax import figures
from vae_jax.figures import canvas


@pytest.mark.parametrize("n", [40, 10_000])
def test_limits_hold_the_curve_and_not_its_outliers(n):
  step = np.arange(n, dtype=np.float64)
  value = 100 + np.sin(step)
  value[: n // 20] = 1e6
  value[n // 2] = 1e9
  low, high = canvas.robust_limits([np.stack([step, value])])
  assert 98 < low < 99.1 and 100.9 < high < 120


def test_limits_hold_every_curve_and_ignore_the_first_steps():
  step, value = np.arange(100.0), np.full(100, 2.0)
  curves = [np.stack([step, step]), np.array([[50.0], [200.0]])]
  low, high = canvas.robust_limits(curves)
  assert low < 6 and high > 200
  value[:5] = 1e6
  low, high = canvas.robust_limits([np.stack([step, value])])
  assert 1.5 < low < 2 < high < 2.5


def test_running_mean_is_centered_and_survives_an_exploding_step():
  values = np.random.default_rng(0).normal(size=100)
  mean = canvas.running_mean(values, (-9.0, 9.0))
  # The window shrinks at the ends.
  expected = [values[max(i - 2, 0) : i + 3].mean() for i in range(100)]
  np.testing.assert_allclose(mean, expected, rtol=1e-12)
  values = np.full(1000, 100.0)
  values[500] = 1e30
  mean = canvas.running_mean(values, (99.0, 101.0))
  np.testing.assert_allclose(mean, 100, atol=0.1)


def test_classes_have_distinct_colors():
  for classes in (1, 10, 17, 40):
    assert len(np.unique(canvas.palette(classes), axis=0)) == classes


def test_loss_curves_skip_missing_values():
  rows = metric_rows()
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
def test_loss_curves_draw_few_values(steps_per_epoch):
  for rows in (
    [{"step": 3, "split": "train", "loss": 1.0}],
    [{"step": 3, "split": "validation", "neg_elbo": 1.0, "loss": 2.0}],
    [{"step": i, "split": "train", "rate": 0.0} for i in range(50)],
  ):
    picture = figures.loss_curves(rows, steps_per_epoch=steps_per_epoch)
    assert picture.min() < 64


def test_loss_is_drawn_only_where_it_differs_from_neg_elbo():
  orange = np.array([0xC2, 0x59, 0x0C])
  rows = metric_rows()
  weighted = [row | {"loss": row["loss"] + 3 * row["rate"]} for row in rows]
  assert not np.any(np.all(figures.loss_curves(rows) == orange, axis=-1))
  assert np.any(np.all(figures.loss_curves(weighted) == orange, axis=-1))


def test_cells_of_heat_maps_have_the_colors_of_their_values():
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
  for value in (0.0, np.nan):
    assert heat_map(np.full((3, 2), value)).min() < 64


def test_latent_scatter_colors_points_by_class():
  codes = np.array([[-1.5, -1.5], [1.5, 1.5]], np.float32)
  where = []
  for labels in ([3, 8], [8, 3]):
    picture = figures.latent_scatter(codes, np.array(labels))
    for color in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):
      # Points are translucent: their color on white.
      mixed = 0.7 * np.array(color) + 0.3 * 255
      near = np.abs(picture - mixed).max(axis=-1) <= 2
      where.append(np.argwhere(near).mean(axis=0))
  blue1, orange1, blue2, orange2 = where
  np.testing.assert_allclose(blue1, orange2, atol=1)
  np.testing.assert_allclose(orange1, blue2, atol=1)
  # The first point lies lower left, and rows count from the top.
  assert blue1[0] > orange1[0] and blue1[1] < orange1[1]
  codes[1] = np.nan
  assert figures.latent_scatter(codes).shape == (800, 1000, 3)


def test_scatter_colors_points_by_label():
  points, axes = np.float32([[0, 0], [1, 1]]), {"x_label": "x", "y_label": "y"}

  def colors(labels):
    """Returns blue and orange pixels in the left third of the picture."""
    coloring = figures.Coloring("a", np.array(labels), ("no", "yes"))
    picture = figures.scatter(points, [coloring], title="t", **axes)
    left = picture[:, : picture.shape[1] // 3].astype(int)
    blue = left[..., 2] - left[..., 0]
    return (blue > 60).sum(), (blue < -60).sum()

  blue, orange = colors([0, 1])
  assert blue > 0 and orange == 0
  assert colors([1, 0])[1] > 0
  with pytest.raises(ValueError, match="one for each name"):
    colors([0, 2])
