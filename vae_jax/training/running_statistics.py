"""Running statistics (batch norm, gaussian_optimal) of averaged weights.

Training updates them under the raw weights. Under averaged weights activations
and errors have other moments, so that both together can be far worse than
either: the statistics of averaged weights are estimated by passes of the
training model over training batches.

An update is s' = m s + (1 - m) b, where b is the statistic of one batch and m
the momentum. At a huge s, m is s' / s; from s = 0, b is s' / (1 - m). The
estimate is the mean of b over batches. A variable that is updated otherwise
keeps the value of training.

References:
  Izmailov et al., arXiv 1803.05407, section 3.2, on batch norm after averaging;
  Wu and Johnson, arXiv 2105.07576, section 3, on the mean over batches.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax
from jaxtyping import Array, Int32

from vae_jax.config import ConfigError, reason
from vae_jax.data import datasets
from vae_jax.models import Params, Variables
from vae_jax.runtime import devices, watchdog
from vae_jax.training import batch as batch_lib
from vae_jax.training import loop as loop_lib
from vae_jax.training import state as state_lib
from vae_jax.training import step as step_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.loop import Loop
from vae_jax.training.state import TrainState

# Steps whose batches are read. Each costs a forward pass, a third of a step.
STEPS = 20
# A float32 far above all statistics.
_HUGE = 1e30
_RUNNING = "batch_stats"  # The collection that a training pass updates.


class Estimator:
  """Estimates the running statistics of averaged weights.

  The estimate is a function of config, weights and step alone: its batches are
  those of the steps that would come next. It is the same on any devices, up to
  the order of sums.
  """

  def __init__(
    self, experiment: Experiment, loop: Loop, source: datasets.Source
  ):
    """`source` is the training split."""
    self._experiment, self._loop, self._source = experiment, loop, source
    self._sums = devices.pmap(functools.partial(sums, experiment))

  def read(self, state: TrainState) -> TrainState:
    """Returns a host copy of a state on the devices, with the statistics of its
    averaged weights if it has both; all processes must call it."""
    return self.update(devices.read_one(state))

  def update(self, state: TrainState) -> TrainState:
    """Returns a host copy of a state with these statistics."""
    raw = state.model_state
    if state.ema_params is None or not raw.get(_RUNNING):
      return state
    if not state_lib.has_averages(state):
      return state.replace(ema_model_state=raw)
    running = jax.tree.map(np.asarray, raw[_RUNNING])
    estimate = self._mean(int(state.step), self._variables(state), running)
    return state.replace(ema_model_state={**raw, _RUNNING: estimate})

  def _variables(self, state: TrainState) -> Variables:
    params = state_lib.eval_params(self._experiment.config, state)
    return devices.replicate({"params": params, **state.model_state})

  def _mean(self, first: int, variables: Variables, raw: Params) -> Params:
    """Returns the mean of b over the batches from a step on."""
    config = self._experiment.config
    seed = devices.replicate(np.uint32(config.seed))
    low, high = (
      devices.replicate(jax.tree.map(functools.partial(_full, value), raw))
      for value in (0.0, _HUGE)
    )
    total = jax.tree.map(np.zeros_like, raw)
    momentum = None
    for begin in range(0, STEPS, self._loop.steps_per_call):
      count = min(self._loop.steps_per_call, STEPS - begin)
      dispatch = (first + begin, count)
      _, _, data = loop_lib.load(
        self._experiment, self._loop, self._source, dispatch
      )
      part = [
        self._sums(variables, start, data, devices.replicate(where), seed)
        for start, where in (
          (low, np.array(dispatch, np.int32)),
          *([] if momentum else [(high, np.array([first, 1], np.int32))]),
        )
      ]
      part = devices.read_one(part)
      watchdog.progress(watchdog.COMPUTING)
      total = jax.tree.map(np.add, total, part[0])
      momentum = momentum or part[1]
    parts = config.train.accumulate
    return jax.tree.map(
      lambda v, s, m: _average(v, s / (STEPS * parts), m / parts / _HUGE),
      *(raw, total, momentum),
    )


def complete(experiment: Experiment, state: TrainState) -> TrainState:
  """Returns a host copy of a state with the statistics of its averaged weights,
  which checkpoints of earlier releases lack.

  They are estimated, from the training split. Where that is not at hand they
  stay those of the raw weights, with a warning.
  """
  config = experiment.config
  lacks = state.ema_params is not None and state.ema_model_state is None
  if not (lacks and state.model_state.get(_RUNNING)):
    return state
  try:
    devices.check_batch(
      "train.batch_size", config.train.batch_size, config.train.accumulate
    )
    source, loop = experiment.source("train"), loop_lib.plan(experiment)
  except ConfigError as error:
    logging.warning(
      "The checkpoint has no running statistics of its averaged weights, which "
      "an earlier release did not keep, and they cannot be estimated: those of "
      "the raw weights take their place, with numbers that may be far worse. "
      "(%s)",
      reason(error),
    )
    return state
  with watchdog.armed():
    return Estimator(experiment, loop, source).update(state)


def _full(value: float, leaf: np.ndarray) -> np.ndarray:
  floating = np.issubdtype(leaf.dtype, np.floating)
  return np.full_like(leaf, value) if floating else leaf


def _average(raw: np.ndarray, update: Any, momentum: Any) -> np.ndarray:
  """Returns update / (1 - momentum), the raw value where m is not in [0, 1)."""
  if not np.issubdtype(raw.dtype, np.floating):
    return raw
  averages = (momentum >= 0) & (momentum < 1 - 1e-6) & np.isfinite(update)
  rest = np.where(averages, 1 - momentum, 1)
  return np.where(averages, update / rest, raw).astype(raw.dtype)


def sums(
  experiment: Experiment,
  variables: Variables,
  start: Params,
  data: step_lib.Arrays,
  dispatch: Int32[Array, "2"],
  seed: jax.Array,
) -> Params:
  """Returns the sums over micro-batches of the running statistics after one
  update each, all from `start`; runs on each device.

  Args:
    experiment: of the run.
    variables: weights, and model state.
    start: running statistics, {module: ...}.
    data: as in `step.train_steps`, [k a b ...].
    dispatch: first step, and how many of the k steps to read.
    seed: of the run.
  """
  first, count = dispatch
  parts = data["index"].shape[1]

  def update(number: jax.Array) -> Params:
    step, place = number // parts, number % parts
    batch, dropout_key = batch_lib.train_batch(
      experiment.config,
      jax.tree.map(lambda v: v[step, place], data),
      place,
      step=first + step,
      seed=seed,
    )
    _, updated = step_lib.forward(
      experiment.objective,
      experiment.vae_train,
      {**variables, _RUNNING: start},
      batch,
      dropout_key=dropout_key,
    )
    return updated[_RUNNING]

  total = lax.fori_loop(
    0,
    count * parts,
    lambda number, total: jax.tree.map(jnp.add, total, update(number)),
    jax.tree.map(jnp.zeros_like, start),
  )
  return lax.pmean(total, devices.AXIS)
