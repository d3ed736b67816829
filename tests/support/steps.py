"""A train step compiled for data of zeros: what the compiler says of it."""

import jax
import numpy as np

from tests.support.helpers import tiny_config
from vae_jax.runtime import devices as parallel
from vae_jax.training import step as train_step


def arguments(config, shape):
  """Returns initial state, data of zeros, 2 steps to do and a seed of 0."""
  state = train_step.init_state(config, shape, 10)
  parts, devices = config.train.accumulate, parallel.device_count()
  local = config.train.batch_size // (parts * devices)
  lead = (devices, config.train.steps_per_call, parts, local)
  data = {
    "image": np.zeros((*lead, *shape), np.uint8),
    "index": np.zeros(lead, np.int32),
  }
  return (
    parallel.replicate(jax.tree.map(np.asarray, state)),
    parallel.shard(data),
    *parallel.replicate((np.array([2, 0], np.int32), np.uint32(0))),
  )


def compiled(shape, **settings):
  """Returns the compiled train step of a tiny config, and its arguments."""
  config = tiny_config("", **settings)
  step = train_step.make_train_steps(config, shape, 10)
  args = arguments(config, shape)
  return step.lower(*args).compile(), args
