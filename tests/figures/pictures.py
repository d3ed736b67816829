"""Small inputs of every kind of picture, and the pictures made of them."""

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


def _runs(n):
  return {f"run {i}": metric_rows() for i in range(n)}


def _codes(n=60):
  return np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)


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


def _edit_curves(path):
  strengths = np.linspace(-3, 3, 7)
  return figures.edit_curves(
    strengths,
    {"mean": np.tile(strengths, (5, 1)), "probe": np.zeros((5, 7))},
    {kind: {"Smiling": 0.5, "Bald": -0.1} for kind in ("mean", "probe")},
    path,
    title="Smiling",
    target_name="curvature of the lips",
    clearly=(-0.3, 0.4),
    attribute="Smiling",
  )


_SCATTER = {
  "title": "codes",
  "x_label": "component 1",
  "y_label": "component 2",
}
TILED = {
  "image_grid": lambda path: figures.image_grid(random_images(7), path),
  "image_grid gray": lambda path: figures.image_grid(
    random_images(7, c=1), path
  ),
  "reconstruction_grid": lambda path: figures.reconstruction_grid(
    random_images(7), random_images(7, seed=1), path, columns=4
  ),
  "reconstruction_grid gray": lambda path: figures.reconstruction_grid(
    random_images(7, c=1), random_images(7, c=1, seed=1), path
  ),
  "manifold": lambda path: figures.manifold(
    random_images(6), path, z1=[-1.0, 0.0, 1.0], z2=[1.0, -1.0]
  ),
  "image_strip": lambda path: figures.image_strip(
    [random_images(3), random_images(3, seed=1)], ["a", "b"], list("123"), path
  ),
  "image_panels": lambda path: figures.image_panels(
    [[figures.Panel("title", random_images(4), 2)]], path
  ),
}
PLOTTED = {
  "loss_curves": lambda path: figures.loss_curves(
    metric_rows(), path, steps_per_epoch=20
  ),
  "learning_curves": lambda path: figures.learning_curves(_runs(1), path),
  "learning_curves of 20": lambda path: figures.learning_curves(
    _runs(20), path
  ),
  "rate_distortion": lambda path: _rate_distortion(path, 1),
  "rate_distortion of 20": lambda path: _rate_distortion(path, 20),
  "latent_scatter": lambda path: figures.latent_scatter(
    _codes(), np.arange(60) % 10, path
  ),
  "scatter": lambda path: figures.scatter(
    _codes(), [figures.Coloring("all"), figures.Coloring("")], path, **_SCATTER
  ),
  "edit_curves": _edit_curves,
} | {
  f"heat_map {shape}": lambda path, shape=shape: heat_map(
    np.random.default_rng(0).random(shape), path
  )
  for shape in ((1, 1), (10, 5), (16, 32), (100, 8))
}
