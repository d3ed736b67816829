"""A run small enough for a test: tiny drawn faces, tiny networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from vae_jax import config as config_lib
from vae_jax import objectives
from vae_jax.latents import trained_model
from vae_jax.objectives import elbo
from vae_jax.runtime import devices
from vae_jax.training import build, experiment, setup
from vae_jax.training import state as state_lib
from vae_jax.training import step as train_step
from vae_jax.training import writer as writer_lib


def tiny_config(data_dir, **settings):
  """Returns a config on `synthetic_faces/tiny`, 16 x 16 grey, changed by
  settings whose dots are written as two underscores."""
  c = config_lib.default()
  c.data.name = "synthetic_faces/tiny"
  c.data.dir = str(data_dir)
  c.data.cache = "none"
  c.data.resize = 16
  c.data.grayscale = True
  c.model.encoder.name = "mlp"
  c.model.encoder.args.hidden = (16,)
  c.model.decoder.name = "mlp"
  c.model.decoder.args.hidden = (16,)
  c.model.latent_dim = 3
  c.train.num_steps = 20
  c.train.batch_size = 16
  c.train.steps_per_call = 5
  c.train.log_every_steps = 1
  c.train.validate_every_steps = 1000
  c.checkpoint.every_steps = 1000
  c.eval.batch_size = 16
  c.train.compilation_cache_dir = "none"
  for path, value in settings.items():
    config_lib.update(c, path.replace("__", "."), value)
  return c


@objectives.needs(nn.LayerNorm, reads="latents")
def needy_loss(vae, batch):
  """The ELBO, and a network that it has no use for."""
  return elbo.elbo(vae, batch)


def nan_on_one_device(vae, batch):
  """The ELBO; on the second device the fourth step's loss is nan."""
  terms = elbo.elbo(vae, batch)
  bad = (batch.step == 3) & (lax.axis_index(devices.AXIS) == 1)
  return terms.replace(loss=jnp.where(bad, jnp.nan, terms.loss))


def curve(workdir, split="train"):
  """Returns the losses of a split, row by row."""
  rows = [r for r in writer_lib.read_rows(workdir) if r["split"] == split]
  return np.array([r["loss"] for r in rows])


def assert_trees_equal(a, b):
  """Checks that two trees are equal bit for bit."""
  flat_a, tree_a = jax.tree.flatten(a)
  flat_b, tree_b = jax.tree.flatten(b)
  assert tree_a == tree_b
  for x, y in zip(flat_a, flat_b, strict=True):
    np.testing.assert_array_equal(x, y)


def tiny_experiment(config, shape=(16, 16, 1), num_steps=10):
  """Returns the experiment of a config on images of a shape, without data."""
  config = config.copy_and_resolve_references()
  config.data.image_shape = shape
  return experiment.build(config, num_steps=num_steps)


def step_arguments(run):
  """Returns initial state, data of zeros, 2 steps to do and a seed of 0."""
  config = run.config
  parts, count = config.train.accumulate, devices.device_count()
  local = config.train.batch_size // (parts * count)
  lead = (count, config.train.steps_per_call, parts, local)
  data = {
    "image": np.zeros((*lead, *run.image_shape), np.uint8),
    "index": np.zeros(lead, np.int32),
  }
  return (
    devices.replicate(jax.tree.map(np.asarray, state_lib.init_state(run))),
    devices.shard(data),
    *devices.replicate((np.array([2, 0], np.int32), np.uint32(0))),
  )


def compiled_step(shape, **settings):
  """Returns the compiled train step of a tiny config, and its arguments."""
  run = tiny_experiment(tiny_config("", **settings), shape)
  arguments = step_arguments(run)
  step = train_step.make_train_steps(run)
  return step.lower(*arguments).compile(), arguments


def untrained(config, folder):
  """Returns a model with its first weights, as if a run in `folder` had just
  begun."""
  run = setup.prepare(config)
  variables = build.init_variables(run.config, run.image_shape, run.vae_eval)
  return trained_model.TrainedModel(
    experiment=run,
    workdir=folder,
    step=0,
    variables=jax.tree.map(np.asarray, variables),
    chunk=1,
  )


def with_config(model, config):
  """Returns a trained model that reads another config."""
  return dataclasses.replace(model, experiment=experiment.build(config))
