"""Fitted densities on disk: `<workdir>/density/<name>.safetensors` and `.json`.

The JSON file names the checkpoint and the settings that a density was fitted
to; a density of others is not read.
"""

import hashlib
import json
from typing import Any

from absl import logging
from flax import traverse_util
from safetensors import numpy as safetensors

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, schema
from vae_jax.latents.opened import Opened
from vae_jax.runtime import storage
from vae_jax.training import metrics

_FOLDER = "density"
# Incremented when the same model would give another density.
_VERSION = 1
# Groups of settings that decide the codes.
_GROUPS = ("data", "model", "objective", "seed")


def path(model: Opened, name: str) -> storage.Path:
  """Returns the file of a density's arrays; its record is the `.json`."""
  return model.workdir / _FOLDER / f"{name}.safetensors"


def read(model: Opened, name: str) -> dict[str, Any] | None:
  """Returns the arrays of a density of the model's checkpoint; None, and a line
  in the log, if there is none that fits."""
  tensors = path(model, name)
  record = tensors.with_suffix(".json")
  try:
    with storage.parsing(record, "it is fitted again"):
      if not record.exists():
        return None
      card, content = json.loads(record.read_text()), tensors.read_bytes()
      if card["made_from"] != _made_from(model, name):
        logging.info(
          "%s is of step %s of other weights; it is fitted again for step %d.",
          tensors, card["step"], model.step,
        )  # fmt: skip
        return None
      if card["sha256"] != hashlib.sha256(content).hexdigest():
        raise ConfigError(
          f"{tensors} is not the file that {record} describes; it is fitted "
          "again."
        )
      flat = safetensors.load(content)
      return traverse_util.unflatten_dict(flat, sep="/")
  except (ConfigError, FileNotFoundError) as error:
    logging.warning("%s", error)
    return None


def write(
  model: Opened, name: str, arrays: dict[str, Any], report: dict[str, Any]
) -> None:
  """Writes a density of the model's checkpoint; equal ones as equal bytes.

  Args:
    model: the model.
    name: of the density.
    arrays: by name, nested.
    report: of the fit, for the record.
  """
  tensors = path(model, name)
  record = tensors.with_suffix(".json")
  content = safetensors.save(traverse_util.flatten_dict(arrays, sep="/"))
  card = {
    "density": name,
    "step": model.step,
    "checkpoint": model.config.eval.checkpoint,
    "made_from": _made_from(model, name),
    "sha256": hashlib.sha256(content).hexdigest(),
    **report,
    "config": _settings(model),
  }
  # Removed first and written last, so that it never names an incomplete file.
  record.unlink(missing_ok=True)
  storage.write_bytes(tensors, content)
  storage.write_json(record, metrics.finite(card))
  logging.info("The density %s of step %d is in %s", name, model.step, tensors)


def _made_from(model: Opened, name: str) -> str:
  return model.digest(_VERSION, name, model.step, model.config.seed)


def _settings(model: Opened) -> dict[str, Any]:
  """Returns the settings that the codes depend on, by dotted name."""
  every = config_lib.flatten(json.loads(config_lib.to_json(model.config)))
  return {
    name: value
    for name, value in every.items()
    if name.partition(".")[0] in _GROUPS and name not in schema.FREE_FIELDS
  }
