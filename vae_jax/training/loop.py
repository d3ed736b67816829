"""The plan of a training loop: its constants, dispatches and their data."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax.data import datasets, pipeline
from vae_jax.runtime import devices
from vae_jax.training.experiment import Experiment

# Dispatches that may wait for the device. Without a limit the host runs ahead
# until simulated devices starve one another and deadlock.
RUN_AHEAD = 2
# Images of one dispatch in bytes, at most; it changes no number.
_DISPATCH_BYTES = 1 << 28
# A dispatch is cut to about this many seconds, so that a signal is obeyed soon.
_DISPATCH_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Loop:
  """Constants of a training loop, in optimizer steps."""

  num_steps: int
  batch_size: int  # images per step over all devices
  steps_per_epoch: float
  steps_per_call: int  # of the largest dispatch
  validate_every: int
  save_every: int

  def epoch(self, step: int) -> float:
    """Returns the passes over the training split after `step` steps."""
    return step / self.steps_per_epoch

  def validation_due(self, step: int) -> bool:
    """Returns whether to validate after `step` steps."""
    return step % self.validate_every == 0 or step == self.num_steps

  def checkpoint_due(self, step: int) -> bool:
    """Returns whether to save after `step` steps."""
    return step % self.save_every == 0 or step == self.num_steps

  def fitting(self, seconds_per_step: float) -> int:
    """Returns the steps of a dispatch that takes a few seconds at most."""
    steps = int(_DISPATCH_SECONDS / max(seconds_per_step, 1e-9))
    return min(self.steps_per_call, max(1, steps))


def plan(experiment: Experiment) -> Loop:
  """Returns the loop of an experiment."""
  config = experiment.config
  steps_per_epoch = experiment.steps_per_epoch
  return Loop(
    num_steps=experiment.num_steps,
    batch_size=config.train.batch_size,
    steps_per_epoch=steps_per_epoch,
    steps_per_call=steps_per_call(config),
    # A small data set has short epochs, and needs no more validations.
    validate_every=config.train.validate_every_steps
    or max(round(steps_per_epoch), config.train.log_every_steps),
    save_every=config.checkpoint.every_steps,
  )


def steps_per_call(config: ConfigDict) -> int:
  """Returns the steps of a dispatch: the config's, or as many as fit.

  Several dispatches are held at once, on the host and on the device.
  """
  step_bytes = config.train.batch_size * math.prod(config.data.image_shape)
  return min(config.train.steps_per_call, max(1, _DISPATCH_BYTES // step_bytes))


class Dispatches:
  """Iterates over (first step, steps), cut where validation or a save is due.

  No later one has more steps than `limit` says; it changes no number.
  """

  def __init__(self, loop: Loop, start: int):
    self._loop, self._start = loop, start
    self.limit = loop.steps_per_call

  def __iter__(self) -> Iterator[tuple[int, int]]:
    first, loop = self._start, self._loop
    while first < loop.num_steps:
      last = min(first + self.limit, loop.num_steps)
      for every in (loop.validate_every, loop.save_every):
        last = min(last, (first // every + 1) * every)
      yield first, last - first
      first = last


class Result(NamedTuple):
  """A dispatch, and its values on the devices."""

  first: int  # step before the dispatch
  count: int  # its steps
  history: dict[str, jax.Array]  # per-step metrics [k]
  stop: jax.Array  # whether any process has received a stop signal


def control(count: int, stop: bool) -> jax.Array:
  """Returns, on the devices, the steps of a dispatch and whether this process
  has received a stop signal."""
  return devices.replicate(np.array([count, stop], np.int32))


def load(
  experiment: Experiment,
  loop: Loop,
  source: datasets.Source,
  dispatch: tuple[int, int],
) -> tuple[int, int, dict[str, jax.Array]]:
  """Returns first step and steps of a dispatch, and its data on the devices."""
  first, count = dispatch
  arrays = pipeline.train_data(
    source,
    first,
    count,
    seed=experiment.config.seed,
    batch_size=loop.batch_size,
    micro_batches=experiment.config.train.accumulate,
    steps_per_call=loop.steps_per_call,
  )
  return first, count, devices.shard(arrays)
