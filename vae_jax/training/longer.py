"""Runs that become longer than they were.

A run of 40 steps that goes on to 80 has the bits of a run of 80, unless
something in its first 40 steps depends on the length: the learning rate of
most schedules, which is compared step by step.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax.training import experiment as experiment_lib
from vae_jax.training import optim
from vae_jax.training.experiment import Experiment

LENGTHS = ("train.num_steps", "train.num_epochs")
_COMPARED = 10_000  # Steps whose rates are compared, at most.


def refusal(experiment: Experiment, stored: ConfigDict) -> str:
  """Returns why a run may not get the length of an experiment, or "".

  `stored` is the config of the run, which is equal up to its length.
  """
  config, steps = experiment.config, experiment.num_steps
  before = experiment_lib.num_steps_of(stored, experiment.splits)
  if steps < before:
    return (
      f"it has {before} steps and cannot become shorter; {steps} are asked for"
    )
  compared = np.unique(np.linspace(0, before - 1, _COMPARED).astype(np.int32))
  compared = jnp.asarray(compared)
  rates = [
    np.asarray(jax.vmap(optim.learning_rate(config, n, highest=1.0))(compared))
    for n in (before, steps)
  ]
  if np.array_equal(*rates):
    return ""
  return (
    f"its {before} steps cannot become {steps}: the rates of "
    f"config.optim.schedule.name = {config.optim.schedule.name} depend on the "
    "length of the run, so that its first steps would have been others"
  )
