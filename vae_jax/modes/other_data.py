"""Results on other data than a model was trained on."""

import re

from vae_jax import config as config_lib
from vae_jax.config import schema
from vae_jax.latents.opened import Opened
from vae_jax.runtime import storage
from vae_jax.training import restore


def trained_on(model: Opened) -> str:
  """Returns the name of the training data; "" where the model's config reads
  the same images."""
  trained = restore.load_config(model.workdir).data
  own, other = (
    config_lib.flatten(model.config.data),
    config_lib.flatten(trained),
  )
  differs = any(
    own[key] != other[key]
    for key in own
    if f"data.{key}" not in schema.FREE_FIELDS
  )
  return trained.name if differs else ""


def folder(model: Opened, name: str) -> storage.Path:
  """Returns the folder of results, one below it for each other data set, whose
  results are no numbers of the run."""
  path = model.workdir / name
  if not trained_on(model):
    return path
  splits = model.experiment.splits
  words = f"{splits.name} {splits.words(model.config.eval.split)}"
  return path / re.sub(r"[^\w.+-]+", "_", words)
