"""Compares an autoencoder with a VAE at 2 and 32 latents, to runs/lesson_*/."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from sklearn import decomposition

from vae_jax import config as config_lib
from vae_jax import figures
from vae_jax.config import ConfigError, check
from vae_jax.data import cache, datasets
from vae_jax.evaluate import distances
from vae_jax.latents import trained_model
from vae_jax.runtime import storage
from vae_jax.train import train
from vae_jax.training import restore

NEEDS = "config"
PREFIX = "lesson"

_FOLDER = "lesson"
_LATENTS = (2, 32)
# Objective and posterior.
_KINDS = {
  "autoencoder": ("autoencoder", "deterministic"),
  "vae": ("elbo", "diagonal_normal"),
}
_ROWS = 8  # Of samples in a panel, and columns.
_COMPONENTS = 50
_FITTED = 5000  # Training images that the components are fitted to, at most.
_CHUNK = 500  # Samples decoded at a time.

_MEANING = {
  "distance": (
    "squared Frechet distance between normal distributions fitted to the "
    f"images' first {_COMPONENTS} principal components, pixels in [0, 1]; the "
    "components are those of training images, the distance is to test images"
  ),
  "nearest": (
    "mean Euclidean distance in pixels from an image to the nearest test "
    "image, divided by the same of a test image to the nearest other one; "
    "blur lowers it, below 1 too"
  ),
}


def run(config: ConfigDict, workdir: str) -> str:
  """Compares an autoencoder and a VAE at 2 and 32 latents; returns a table.

  The config's networks are trained as each of the four, an ordinary run in
  `<workdir>/autoencoder_2` and so on, which a second call resumes. Only
  objective, posterior, prior, condition and latent size differ from the config.
  Draws from N(0, I) are decoded and measured, as many as there are test images
  (at most `config.eval.num_samples`). Training images, measured as if they
  were samples, show which numbers are good.

  Writes `lesson/lesson.png`, `lesson.npz` (its images) and `lesson.json`.

  Raises:
    ConfigError: a setting is wrong, or there are too few images.
  """
  return compare_kinds(config, workdir, _LATENTS)


def compare_kinds(
  config: ConfigDict, workdir: str, latents: Sequence[int]
) -> str:
  """Does `run` at some numbers of latents."""
  check.validate(config)
  splits = datasets.open_splits(config.data)
  test = cache.open_source(splits.test, config.data)
  source = cache.open_source(splits.train, config.data)
  count = min(config.eval.num_samples, len(test), len(source))
  if count < distances.MIN_IMAGES:
    raise ConfigError(
      f"There are {count} images to compare samples with; the lesson needs at "
      f"least {distances.MIN_IMAGES} (config.eval.num_samples and the splits "
      f"of {config.data.name})."
    )
  runs = {
    (kind, dim): storage.path(workdir) / f"{kind}_{dim}"
    for dim in latents
    for kind in _KINDS
  }
  for (kind, dim), folder in runs.items():
    logging.info("Lesson: %s with %d latents, in %s", kind, dim, folder)
    train(config_for(config, kind, dim), str(folder))
  ruler = Ruler(_spread(source, _FITTED), _spread(test, count))
  index = np.arange(count, dtype=np.int32)
  images, rows = {}, []
  for (kind, dim), folder in runs.items():
    own = restore.load_config(folder)
    # An existing run may have been started with other values.
    for name in ("sample.seed", "sample.temperature", "eval.checkpoint"):
      config_lib.update(own, name, config_lib.get(config, name))
    model = trained_model.open_run(own, str(folder), chunk=_CHUNK)
    samples = model.draws(index)
    rows.append({"model": kind, "latents": dim, **ruler.measure(samples)})
    images[f"{kind}_{dim}"] = samples[: _ROWS**2]
  real = _spread(source, count)
  rows.append({"model": "data", "latents": None, **ruler.measure(real)})
  images["data"] = real[: 2 * _ROWS]

  folder = storage.path(workdir) / _FOLDER
  storage.write_arrays(folder / "lesson.npz", **images)
  result = {
    "meaning": _MEANING,
    "images": count,
    "components": ruler.components,
    "explained_variance": ruler.explained,
    "seed": config.sample.seed,
    "rows": rows,
  }
  storage.write_json(folder / "lesson.json", result)
  _draw(rows, images, folder / "lesson.png")
  return f"{table(rows)}\n{folder / 'lesson.png'}"


def config_for(config: ConfigDict, kind: str, latent_dim: int) -> ConfigDict:
  """Returns the config of the run of a kind, "autoencoder" or "vae", with the
  networks, likelihood, data and training of another."""
  objective, posterior = _KINDS[kind]
  c = config.copy_and_resolve_references()
  c.model.latent_dim = latent_dim
  c.model.condition = "none"
  c.objective.name, c.model.posterior.name = objective, posterior
  c.model.prior.name = "standard_normal"
  for node in (c.objective, c.model.posterior, c.model.prior):
    node.args = ConfigDict()
  c.objective.auxiliary.args = ConfigDict()
  return c


class Ruler:
  """Measures images against test images, without a trained model.

  Attributes:
    components: principal components that the distance is taken in.
    explained: share of the training images' variance that they hold.
  """

  def __init__(
    self,
    fitted: UInt8[np.ndarray, "m h w c"],
    reference: UInt8[np.ndarray, "n h w c"],
  ):
    """Fits the components to training images, and keeps the test images."""
    flat = _flat(fitted)
    self.components = min(_COMPONENTS, *flat.shape)
    self._pca = decomposition.PCA(self.components, random_state=0).fit(flat)
    self.explained = float(self._pca.explained_variance_ratio_.sum())
    self._reference = _flat(reference)
    self._gaussian = self._fit(self._reference)
    self._unit = float(distances.nearest_other(self._reference).mean())

  def measure(self, images: UInt8[np.ndarray, "n h w c"]) -> dict[str, float]:
    """Returns "distance" and "nearest", as `_MEANING` defines them."""
    flat = _flat(images)
    nearest = float(distances.nearest(flat, self._reference).mean())
    return {
      "distance": distances.frechet(self._gaussian, self._fit(flat)),
      "nearest": nearest / self._unit,
    }

  def _fit(self, flat: np.ndarray) -> distances.Gaussian:
    return distances.gaussian(self._pca.transform(flat))


def _flat(images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n p"]:
  return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _spread(
  source: datasets.Source, count: int
) -> UInt8[np.ndarray, "n h w c"]:
  """Returns at most `count` images at even distances in a split."""
  count = min(count, len(source))
  return source.fetch(np.arange(count) * len(source) // count)["image"]


def _title(row: dict[str, Any]) -> str:
  if row["latents"] is None:
    return "training images"
  name = {"vae": "VAE"}.get(row["model"], row["model"])
  return f"{name}, {row['latents']} latents"


def _draw(
  rows: list[dict[str, Any]], images: dict[str, np.ndarray], path: storage.Path
) -> None:
  drawn = []
  for row, shown in zip(rows, images.values(), strict=True):
    title = f"{_title(row)}: distance {row['distance']:.3g}"
    columns = _ROWS if row["latents"] else 2 * _ROWS
    drawn.append(figures.Panel(title, shown, columns))
  across = len(_KINDS)
  figures.image_panels(
    [drawn[i : i + across] for i in range(0, len(drawn), across)], path
  )


def table(rows: list[dict[str, Any]]) -> str:
  """Returns the numbers of all models and their definitions."""
  width = max(len(_title(row)) for row in rows)
  lines = [f"{'':{width}}  distance  nearest"]
  for row in rows:
    numbers = f"{row['distance']:8.3f}  {row['nearest']:7.3f}"
    lines.append(f"{_title(row):{width}}  {numbers}")
  lines += [f"{name}: {words}" for name, words in _MEANING.items()]
  return "\n".join(lines)
