"""`--mode=attributes`: directions of all attributes from one encoding pass."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import figures, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.evaluate import per_example
from vae_jax.latents import directions, nonlinear_directions, trained_model
from vae_jax.modes import options as options_lib
from vae_jax.runtime import devices, storage
from vae_jax.training import metrics

_FOLDER = "attributes"
_KEY = "made_from.json"
# Raised when the same model would give other ways.
_VERSION = 1
_SPLIT = "train"
_PART = 2000  # Images read at a time for their mean.


def codes_of(
  model: trained_model.TrainedModel, split: str, *, bar: str
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
  """Encodes each image of a split once.

  Args:
    model: the model.
    split: train, validation or test.
    bar: what the bar that shows the progress is called.

  Returns:
    Posterior means [n d]; labels, None where there are none; their names.
  """
  codes, _, labels, names = _encoded(model, split, bar)
  return codes, labels, names


def _encoded(
  model: trained_model.TrainedModel, split: str, bar: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
  """What `codes_of` returns, and one draw of each posterior."""
  source = model.experiment.source(split)
  labelled = source.label_shape is not None

  def code(vae: models.Vae, batch: Batch) -> tuple[jax.Array, ...]:
    posterior = vae.encode(batch.image)
    means = jnp.concatenate(posterior.mean, axis=-1)
    draws = jnp.concatenate(posterior.sample(batch.key), axis=-1)
    return means, draws, batch.label if labelled else means[:, :0]

  variables = devices.replicate(model.variables)
  rows = per_example.rows(model.experiment, code, variables, source, bar=bar)
  codes, draws, labels = (np.concatenate(v) for v in zip(*rows, strict=True))
  names = model.experiment.splits.label_names
  return codes, draws, labels if labelled else None, names


def made_from(model: trained_model.TrainedModel) -> str:
  """Returns a hash of all that the ways of a model depend on."""
  data = model.config.data
  said = [_VERSION, model.step, model.config.eval.seed, data.name]
  said += [data.train_split, data.label]
  digest = hashlib.sha256(json.dumps(said).encode())
  for leaf in jax.tree.leaves(model.variables):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def directions_of(
  model: trained_model.TrainedModel,
) -> tuple[directions.Directions, nonlinear_directions.NonlinearDirections]:
  """Returns directions and curves of a run's checkpoint: those on disk, or new
  ones.

  Writes `attributes/directions.npz` and `curves.npz`, and what a person wants
  to know of them as `attributes.json` and `correlation.png`.

  Raises:
    ConfigError: the data set has no attributes, or the model is given them.
  """
  folder = model.workdir / _FOLDER
  paths = folder / "directions.npz", folder / "curves.npz"
  key = {"made_from": made_from(model)}
  record = folder / _KEY
  if record.exists() and json.loads(record.read_text()) == key:
    return directions.load(paths[0]), nonlinear_directions.load(paths[1])
  if model.config.model.condition != "none":
    raise ConfigError(
      f"config.model.condition is {model.config.model.condition!r}: a model "
      "that is given the labels has no need to keep them in its codes, so that "
      "there is no direction to look for."
    )
  codes, draws, labels, names = _encoded(model, _SPLIT, "encoding")
  if labels is None or names is None:
    raise ConfigError(
      f"{model.config.data.name} has no attributes and no classes, of which "
      "there could be directions; see config.data.label."
    )
  if labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
    raise ConfigError(
      f"The labels of {model.config.data.name} ({model.config.data.label}) are "
      "neither classes nor attributes that are there or not; see "
      "config.data.label."
    )
  source = model.experiment.source(_SPLIT)
  index = np.arange(len(source))
  parts = np.array_split(index, -(-len(source) // _PART))
  found = directions.estimate(
    codes,
    labels,
    names,
    images=(source.fetch(part)["image"] for part in parts),
    split=_SPLIT,
    step=model.step,
  )
  bent = nonlinear_directions.fit(
    codes,
    np.sqrt(((draws - codes) ** 2).mean(axis=0)),
    directions.present_in(labels, len(names)).astype(np.int32),
    names,
    step=model.step,
  )
  # Last, and not before the others are whole.
  record.unlink(missing_ok=True)
  directions.save(found, paths[0])
  nonlinear_directions.save(bent, paths[1])
  storage.write_json(folder / "attributes.json", metrics.finite(_card(found)))
  figures.heat_map(
    found.correlation,
    folder / "correlation.png",
    row_names=found.names,
    column_names=found.names,
    title="correlation of the attributes",
    limit=1,
    signed=True,
  )
  storage.write_json(record, key)
  logging.info("Directions of %d attributes in %s", len(names), folder)
  return found, bent


def _card(found: directions.Directions) -> dict:
  return {
    "split": found.split,
    "step": found.step,
    "images": found.total,
    "attributes": {
      name: {
        "images": int(found.positives[a]),
        "probe_accuracy": float(found.accuracy[a]),
        "length": {
          kind: float(np.linalg.norm(found.vectors[k, a]))
          for k, kind in enumerate(directions.KINDS)
        },
        "correlation": {
          other: round(float(found.correlation[a, b]), 4)
          for b, other in enumerate(found.names)
          if b != a
        },
      }
      for a, name in enumerate(found.names)
    },
  }


def attributes(
  config: ConfigDict, workdir: str, options: options_lib.Options
) -> str:
  """Makes the directions of a run and returns a table of them."""
  del options
  found, _ = directions_of(trained_model.open_run(config, workdir))
  width = max(len(name) for name in found.names)
  lines = [f"{'attribute':>{width}}    images  probe's balanced accuracy"]
  for a, name in enumerate(found.names):
    lines.append(
      f"{name:>{width}}  {found.positives[a]:8,}  {found.accuracy[a]:.3f}"
    )
  return "\n".join([*lines, f"{workdir}/{_FOLDER}/directions.npz"])
