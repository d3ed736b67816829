"""A model with its first weights, open for use without a run behind it."""

import jax
import numpy as np

from vae_jax.data import datasets
from vae_jax.latents import trained_model
from vae_jax.training import build, setup


def untrained(config, folder):
  """Returns a model of a config as if a run in `folder` had just begun."""
  config = setup.resolve(config, datasets.open_splits(config.data))
  shape = tuple(config.data.image_shape)
  variables = build.init_variables(config, shape)
  return trained_model.TrainedModel(
    config=config,
    workdir=folder,
    step=0,
    vae=build.model(config, shape, train=False),
    variables=jax.tree.map(np.asarray, variables),
    chunk=1,
  )
