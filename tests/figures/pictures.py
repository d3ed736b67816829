"""Small inputs of every kind of picture, and the pictures made of them."""

from functools import partial

import numpy as np

from vae_jax import figures


def random_images(n, h=5, w=4, c=3, seed=0):
  """Returns images without white (background) and black (labels)."""
  shape = (n, h, w, c)
  return np.random.default_rng(seed).integers(1, 255, shape, np.uint8)


def metric_rows(n=200):
  """Returns training and validation rows whose loss is the neg_elbo."""
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


def heat_map(values, path=None, **changes):
  """Draws a heat map whose columns have long names."""
  rows, columns = values.shape
  arguments = {
    "row_names": [f"z{i}" for i in range(rows)],
    "column_names": [f"a_long_name_of_factor_{i}" for i in range(columns)],
    "title": "information, nats",
    **changes,
  }
  return figures.heat_map(values, path, **arguments)


def _rate_distortion(path, n):
  points = {name: (20.0 + i, 80.0 - i) for i, name in enumerate(_runs(n))}
  return figures.rate_distortion(points, _runs(n), path)


def _runs(n):
  return {f"run {i}": metric_rows() for i in range(n)}


_IMAGES = {c: random_images(7, c=c) for c in (1, 3)}
_OTHERS = {c: random_images(7, c=c, seed=1) for c in (1, 3)}
_CODES = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
_STRENGTHS = np.linspace(-3, 3, 7)
# By name, functions of a path.
TILED = {
  "image_grid": partial(figures.image_grid, _IMAGES[3]),
  "image_grid gray": partial(figures.image_grid, _IMAGES[1]),
  "reconstruction_grid": partial(
    figures.reconstruction_grid, _IMAGES[3], _OTHERS[3], columns=4
  ),
  "reconstruction_grid gray": partial(
    figures.reconstruction_grid, _IMAGES[1], _OTHERS[1]
  ),
  "manifold": partial(
    figures.manifold, random_images(6), z1=[-1.0, 0.0, 1.0], z2=[1.0, -1.0]
  ),
  "image_strip": partial(
    figures.image_strip,
    [random_images(3), random_images(3, seed=1)],
    ["a", "b"],
    list("123"),
  ),
  "image_panels": partial(
    figures.image_panels, [[figures.Panel("title", random_images(4), 2)]]
  ),
}
PLOTTED = {
  "loss_curves": partial(
    figures.loss_curves, metric_rows(), steps_per_epoch=20
  ),
  "learning_curves": partial(figures.learning_curves, _runs(1)),
  "learning_curves of 20": partial(figures.learning_curves, _runs(20)),
  "rate_distortion": partial(_rate_distortion, n=1),
  "rate_distortion of 20": partial(_rate_distortion, n=20),
  "latent_scatter": partial(figures.latent_scatter, _CODES, np.arange(60) % 10),
  "scatter": partial(
    figures.scatter,
    _CODES,
    [figures.Coloring("all"), figures.Coloring("")],
    title="codes",
    x_label="component 1",
    y_label="component 2",
  ),
  "edit_curves": partial(
    figures.edit_curves,
    _STRENGTHS,
    {"mean": np.tile(_STRENGTHS, (5, 1)), "probe": np.zeros((5, 7))},
    {kind: {"Smiling": 0.5, "Bald": -0.1} for kind in ("mean", "probe")},
    {"mean": (1.0, 1.5), "probe": (None, 0.5)},
    title="Smiling",
    target_name="curvature of the lips",
    clearly=(-0.3, 0.4),
    attribute="Smiling",
  ),
} | {
  f"heat_map {shape}": partial(heat_map, np.random.default_rng(0).random(shape))
  for shape in ((1, 1), (10, 5), (16, 32), (100, 8))
}
