"""Validations of a training run: its bound, its pictures, and their memory.

They come after the checkpoint of their step, so that nothing that fails in them
loses it.
"""

from typing import Any

import jax
import numpy as np
from absl import logging

from vae_jax.data import datasets, pipeline
from vae_jax.evaluate import bound, summaries
from vae_jax.latents import trained_model
from vae_jax.runtime import devices, distributed, watchdog
from vae_jax.training import (
  batch_statistics,
  memory,
  progress,
  setup,
  validations,
)
from vae_jax.training import state as state_lib
from vae_jax.training import step as step_lib
from vae_jax.training import store as store_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

# Batches that are on their way to the devices, or there.
_BATCHES = 2


class Validation:
  """Validates the states of a run on its held-out split.

  All processes must call its functions.
  """

  def __init__(
    self, experiment: Experiment, held_out: datasets.Source, workdir: str
  ):
    """`held_out` is the validation split."""
    self._experiment, self._held_out = experiment, held_out
    self._workdir = workdir
    self._step = step_lib.make_eval_step(experiment)
    self._compiled: dict[int, Any] = {}  # by images on a device
    self._batch_size = devices.round_up(experiment.config.eval.batch_size)

  def prepare(self, state: TrainState, costs: setup.Costs) -> None:
    """Compiles the evaluation step, and halves its batch while it does not fit.

    Args:
      state: a host copy.
      costs: those of the train step; receives the memory of a validation.

    Raises:
      ConfigError: the devices have too little memory.
    """
    config, held = self._experiment.config, costs.held_bytes
    variables = state_lib.eval_variables(config, state)
    with memory.explain_oom(config, held, evaluating=True):
      needed = held + self._needed(variables)
      limit = memory.limit()
      while limit is not None and needed > limit:
        if not self._is_independent(variables):
          break
        smaller = memory.half(self._batch_size)
        if smaller is None:
          break
        self._batch_size = smaller
        needed = held + self._needed(variables)
    # Limits may differ between machines.
    chosen = distributed.gather("the evaluation batch", self._batch_size)
    self._batch_size = min(chosen)
    costs.validation_bytes = needed
    memory.check(config, needed, evaluating=True)

  def _is_independent(self, variables: Any) -> bool:
    return not batch_statistics.has(self._experiment, variables, self._held_out)

  def _needed(self, variables: Any) -> int:
    """Returns the bytes on each device of a validation with the batch."""
    local = self._batch_size // devices.device_count()
    one = pipeline.eval_data(self._held_out, 0, devices.device_count())
    data = jax.tree.map(
      lambda v: jax.ShapeDtypeStruct((local, *v.shape[2:]), v.dtype), one
    )
    scalars = np.int32(0), np.uint32(0)
    shapes = devices.shapes((variables, data, *scalars))
    if local not in self._compiled:
      self._compiled[local] = self._step.lower(*shapes).compile()
    program = memory.program(self._compiled[local])
    return memory.held(shapes[0]) + _BATCHES * memory.held(shapes[1]) + program

  def _run(self, *arguments: Any) -> dict[str, Any]:
    """Evaluates a batch."""
    local = arguments[1]["index"].shape[1]
    if local not in self._compiled:
      self._compiled[local] = self._step.lower(*arguments).compile()
    return self._compiled[local](*arguments)

  def score(self, state: TrainState, store: store_lib.Store) -> float | None:
    """Writes a row and pictures of a host copy of the state.

    Returns:
      What ranks checkpoints, see `validations.score`.
    """
    run, config = self._experiment, self._experiment.config
    model = trained_model.of_state(run, self._workdir, state)
    with store.kept(model.step), memory.explain_oom(config, evaluating=True):
      row = bound.mean_terms(
        self._run,
        model.replicated,
        self._held_out,
        batch_size=self._batch_size,
        step=model.step,
        seed=config.eval.seed,
        independent=lambda: self._is_independent(model.variables),
      )
      epoch = model.step / run.steps_per_epoch
      store.writer.row(model.step, "validation", {**row, "epoch": epoch})
      score = validations.score(row)
      store.scored(model.step, score)
      if devices.is_lead():
        watchdog.progress("drawing")
        summaries.validation(model, self._held_out, store.writer)
    return score

  def finish(self, state: TrainState) -> None:
    """Draws the final pictures, and logs the last validation.

    It validates first if the run ended after its last checkpoint, but before
    the validation of that.
    """
    step, config = int(state.step), self._experiment.config
    if not store_lib.has_validation(self._workdir, step):
      with store_lib.Store(self._workdir, config, step=step) as store:
        self.score(state, store)
    if not devices.is_lead():
      return
    model = trained_model.of_state(self._experiment, self._workdir, state)
    summaries.at_the_end(model, self._held_out)
    progress.log_last_validation(self._workdir)
    logging.info("Results are in %s", self._workdir)
