"""Directions of all attributes of a trained model, kept in its workdir."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float32, Integer

from vae_jax import figures, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.latents import (
  conditions,
  directions,
  nonlinear_directions,
  per_example,
)
from vae_jax.latents.opened import Opened
from vae_jax.runtime import storage
from vae_jax.training import metrics

FOLDER = "attributes"
_FINGERPRINT = "made_from.json"
# Incremented when the same model would give other directions.
_VERSION = 1
_SPLIT = "train"
_CHUNK = 2000  # Images read at a time for their mean.


class Encoded(NamedTuple):
  """A split, encoded.

  Attributes:
    mean: posterior means.
    draw: one of each posterior.
    label: None without labels.
    names: of classes or attributes; () without.
  """

  mean: Float32[np.ndarray, "n d"]
  draw: Float32[np.ndarray, "n d"]
  label: Integer[np.ndarray, "n ..."] | None
  names: tuple[str, ...]


def encode(model: Opened, split: str) -> Encoded:
  """Encodes each image of a split once."""
  source = model.experiment.source(split)
  labelled = source.label_shape is not None

  def code(vae: models.Vae, batch: Batch) -> tuple[jax.Array, ...]:
    posterior = vae.encode(batch.image)
    means = jnp.concatenate(posterior.mean, axis=-1)
    draws = jnp.concatenate(posterior.sample(batch.key), axis=-1)
    return means, draws, batch.label if labelled else means[:, :0]

  rows = per_example.rows(
    model.experiment, code, model.replicated, source, bar="encoding"
  )
  means, draws, labels = (np.concatenate(v) for v in zip(*rows, strict=True))
  label = labels if labelled else None
  names = conditions.names_of(model.experiment, label)
  return Encoded(means, draws, label, names)


def fingerprint(model: Opened) -> str:
  """Returns a hash of everything that the directions of a model depend on."""
  data = model.config.data
  facts = [_VERSION, model.step, model.config.eval.seed, data.name]
  return model.digest(*facts, data.train_split, data.label)


def directions_of(
  model: Opened,
) -> tuple[directions.Directions, nonlinear_directions.NonlinearDirections]:
  """Returns the linear and nonlinear directions of a run's checkpoint.

  They are read from disk if they are of this checkpoint, else estimated and
  written to `attributes/directions.npz` and `curves.npz`, with a summary in
  `attributes.json` and `correlation.png`.

  Raises:
    ConfigError: the data set has no attributes, or the model receives them.
  """
  folder = model.workdir / FOLDER
  paths = folder / "directions.npz", folder / "curves.npz"
  key = {"made_from": fingerprint(model)}
  record = folder / _FINGERPRINT
  try:
    with storage.parsing(record, "it is made again"):
      if record.exists() and json.loads(record.read_text()) == key:
        return directions.load(paths[0]), nonlinear_directions.load(paths[1])
  except (ConfigError, FileNotFoundError) as error:
    logging.warning("%s", error)
  if model.config.model.condition != "none":
    raise ConfigError(
      f"config.model.condition is {model.config.model.condition!r}: a model "
      "that receives the labels does not need them in its codes, so that there "
      "is no direction to find."
    )
  codes, draws, labels, names = encode(model, _SPLIT)
  if labels is None:
    raise ConfigError(
      f"{model.config.data.name} has no attributes and no classes; see "
      "config.data.label."
    )
  if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
    raise ConfigError(
      f"The labels of {model.config.data.name} ({model.config.data.label}) are "
      "neither classes nor binary attributes; see config.data.label."
    )
  source = model.experiment.source(_SPLIT)
  count = len(source)
  chunks = np.array_split(np.arange(count), -(-count // _CHUNK))
  linear = directions.estimate(
    codes,
    labels,
    names,
    images=(source.fetch(chunk)["image"] for chunk in chunks),
    split=_SPLIT,
    step=model.step,
  )
  nonlinear = nonlinear_directions.fit(
    codes,
    np.sqrt(((draws - codes) ** 2).mean(axis=0)),
    directions.present_in(labels, len(names)).astype(np.int32),
    names,
    step=model.step,
  )
  # Removed first and written last, so that it never names incomplete files.
  record.unlink(missing_ok=True)
  directions.save(linear, paths[0])
  nonlinear_directions.save(nonlinear, paths[1])
  storage.write_json(folder / "attributes.json", metrics.finite(_card(linear)))
  figures.heat_map(
    linear.correlation,
    folder / "correlation.png",
    row_names=linear.names,
    column_names=linear.names,
    title="correlation of the attributes",
    limit=1,
    signed=True,
  )
  storage.write_json(record, key)
  logging.info("Directions of %d attributes in %s", len(names), folder)
  return linear, nonlinear


def _card(linear: directions.Directions) -> dict:
  attributes = {}
  for a, name in enumerate(linear.names):
    lengths = (float(np.linalg.norm(v)) for v in linear.vectors[:, a])
    others = zip(linear.names, linear.correlation[a].tolist(), strict=True)
    attributes[name] = {
      "images": int(linear.positives[a]),
      "probe_accuracy": float(linear.accuracy[a]),
      "length": dict(zip(directions.KINDS, lengths, strict=True)),
      "correlation": {k: round(v, 4) for k, v in others if k != name},
    }
  facts = {"split": linear.split, "step": linear.step, "images": linear.total}
  return {**facts, "attributes": attributes}
