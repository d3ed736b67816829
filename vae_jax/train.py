"""The training run: `train(config, workdir)`, to be read top to bottom."""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import check
from vae_jax.data import pipeline
from vae_jax.evaluate import bound, summaries
from vae_jax.runtime import devices, distributed, preemption, storage, watchdog
from vae_jax.training import (
  memory,
  metrics,
  provenance,
  restore,
  setup,
  step_log,
)
from vae_jax.training import progress as progress_lib
from vae_jax.training import state as state_lib
from vae_jax.training import step as train_step
from vae_jax.training import workdir as workdir_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

# A dispatch is cut to about this length, so that a signal is soon obeyed.
_DISPATCH_SECONDS = 2.0


def train(config: ConfigDict, workdir: str) -> TrainState:
  """Trains, or goes on training, a model; returns a host copy of its state.

  The same config on the same workdir resumes, and ends in the same bits as
  if it had never been stopped. Under `workdir` it writes `config.json`,
  `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `figures/`. All processes
  of a job call it; the first one writes, and reads what was written.

  Args:
    config: of `vae_jax.config.default()`, changed at will.
    workdir: folder of the run.

  Raises:
    ConfigError: a setting is wrong, in one sentence, before any work.
    interruption.Interrupted: on SIGTERM or Ctrl-C to any process, after
      saving.
    step_log.Diverged: too many steps in a row were not finite.
    checkpoint.Unsaved: a checkpoint could not be written.
    storage.Unreachable: an object store fails, which may pass.
  """
  return fit(config, workdir)[0]


def fit(config: ConfigDict, workdir: str) -> tuple[TrainState, setup.Costs]:
  """Returns `train`'s state, and what the run cost."""
  check.validate(config)
  devices.check_batch(
    "train.batch_size", config.train.batch_size, config.train.accumulate
  )
  with contextlib.ExitStack() as stack:
    if jax.process_count() > 1:
      # From now on: whoever dies of a signal takes the others along.
      stack.enter_context(preemption.listening())
    experiment = setup.prepare(config)
    config, splits = experiment.config, experiment.splits
    distributed.agree(
      "the data",
      {
        **distributed.config_facts(config),
        **distributed.data_facts("the training images", splits.train),
        **distributed.data_facts("the validation images", splits.validation),
      },
    )
    # All processes end if the first one is refused.
    distributed.lead_first(
      lambda: (
        devices.is_lead()
        and stack.enter_context(workdir_lib.claim(workdir, config))
      ),
      "claiming the workdir",
    )
    kept = stack.enter_context(provenance.keep(workdir, config))
    return _Run(experiment, workdir).go(kept)


class _Run:
  """One run from its start, or from its last checkpoint, to its end."""

  def __init__(self, experiment: Experiment, workdir: str):
    self.experiment, self.workdir = experiment, workdir
    config = self.config = experiment.config
    self.source, self.held_out = distributed.lead_first(
      lambda: (experiment.source("train"), experiment.source("validation")),
      "decoding images",
    )
    self.batch_size = config.train.batch_size
    self.steps_per_epoch = len(self.source) / self.batch_size
    self.num_steps = experiment.num_steps
    self.steps_per_call = setup.steps_per_call(config)
    self.steps_per_dispatch = self.steps_per_call
    self.validate_every = config.train.validate_every_steps or max(
      1, round(self.steps_per_epoch)
    )

  def go(self, kept: provenance.Record) -> tuple[TrainState, setup.Costs]:
    """Restores or initialises, compiles, and runs the loop."""
    config = self.config
    self.record = kept
    with contextlib.ExitStack() as stack:
      with memory.refusals(config):
        self.kept = restore.Safekeeping(
          self.experiment, self.workdir, self.source, stack=stack
        )
      state, host_state = self.kept.state, self.kept.host_state
      start = int(host_state.step)
      self.record.began(start)
      if start >= self.num_steps:
        logging.info("This run is finished: %d steps.", start)
        self._finish(host_state)
        return host_state, setup.Costs()

      self.seeds = devices.replicate(np.uint32(config.seed))
      train_steps, costs = setup.compile_step(
        config,
        train_step.make_train_steps(self.experiment),
        (state, self._load((start, 0))[2], self._control(0, False), self.seeds),
      )
      self.eval_step = train_step.make_eval_step(self.experiment)
      if devices.is_lead():
        setup.describe(self.experiment, self.workdir, host_state, costs)
      if self.kept.resumed:
        logging.info("Going on from step %d of %d.", start, self.num_steps)
      self.kept.open_writer(start)
      stop_requested = stack.enter_context(preemption.listening())
      if self.kept.resumed and self._due(start, self.validate_every):
        if not self.kept.validated(start):
          # A signal came when this validation was due; it has to be made up.
          self._validate(host_state)
      host_state = self._loop(
        train_steps,
        state,
        start,
        int(host_state.skipped_in_row),
        stop_requested,
        costs,
      )
    self._finish(host_state)
    return host_state, costs

  def _control(self, count: int, stop: bool) -> jax.Array:
    return devices.replicate(np.array([count, stop], np.int32))

  def _loop(
    self,
    train_steps: Callable[..., Any],
    state: TrainState,
    start: int,
    skipped_in_row: int,
    stop_requested: Callable[[], bool],
    costs: setup.Costs,
  ) -> TrainState:
    stopwatch = progress_lib.Stopwatch()
    bar = progress_lib.Progress(
      start=start,
      stop=self.num_steps,
      batch_size=self.batch_size,
      epoch=self.steps_per_epoch,
    )
    log = step_log.StepLog(
      self.config,
      self.kept.writer,
      stopwatch,
      bar,
      steps_per_epoch=self.steps_per_epoch,
      skipped_in_row=skipped_in_row,
    )
    running: collections.deque[Any] = collections.deque()
    data = pipeline.prefetch(self._load, self._dispatches(start))
    step, stopping = start, False
    with contextlib.closing(bar), contextlib.closing(data), watchdog.armed():
      while True:
        watchdog.progress(f"fetching data after step {step}")
        with stopwatch.waiting():
          first, count, arrays = next(data)
        begin = time.monotonic()
        state, history, stop = train_steps(
          state, arrays, self._control(count, stop_requested()), self.seeds
        )
        watchdog.progress(watchdog.COMPUTING)
        if first == start:
          # The first dispatch also loads the program and fills the queue.
          with memory.refusals(self.config):
            jax.block_until_ready(history)
          self._limit_dispatch((time.monotonic() - begin) / count)
          stopwatch.restart()
          logging.info("The first %d steps are done.", count)
        else:
          stopwatch.images += count * self.batch_size
        running.append((first, count, history, stop))
        step = self.record.step = first + count
        validating = self._due(step, self.validate_every)
        pause = validating or self._due(
          step, self.config.checkpoint.every_steps
        )
        while len(running) >= (1 if pause or stopping else setup.RUN_AHEAD):
          *done, stop = running.popleft()
          log.add(*done)
          # Read where all processes read it, so that they stop as one.
          stopping |= bool(devices.read_one(stop))
          watchdog.progress(watchdog.COMPUTING)
        bar.update(step)
        stopping &= step < self.num_steps
        if not pause and not stopping:
          continue

        log.flush(step)
        with stopwatch.beside():
          host_state = devices.read_one(state)
          score = None
          if validating and not stopping:
            score = self._validate(host_state)
          # What a diverging run leaves must not push out what was good.
          if stopping or not host_state.skipped_in_row:
            self.kept.save(host_state, score)
          if stopping:
            self.kept.wait()
            raise preemption.Interrupted(
              f"Stopped at step {step} of {self.num_steps} and saved it; the "
              "same command goes on from there."
            )
        if step == self.num_steps:
          break
    costs.images, costs.seconds = stopwatch.images, stopwatch.seconds
    costs.waited = stopwatch.waited
    self.kept.wait()
    return host_state

  def _limit_dispatch(self, seconds_per_step: float) -> None:
    """Cuts the dispatches to come; it changes no number."""
    fitting = max(1, int(_DISPATCH_SECONDS / max(seconds_per_step, 1e-9)))
    # The same in all processes, which enter each dispatch together.
    self.steps_per_dispatch = distributed.from_lead(
      "steps per dispatch", min(self.steps_per_call, fitting)
    )

  def _due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.num_steps

  def _dispatches(self, start: int) -> Iterator[tuple[int, int]]:
    """Yields (first step, steps), cut where validation or a save is due."""
    first = start
    while first < self.num_steps:
      last = min(first + self.steps_per_dispatch, self.num_steps)
      for every in (self.validate_every, self.config.checkpoint.every_steps):
        last = min(last, (first // every + 1) * every)
      yield first, last - first
      first = last

  def _load(self, call: tuple[int, int]) -> tuple[int, int, Any]:
    first, count = call
    arrays = pipeline.train_data(
      self.source,
      first,
      count,
      seed=self.config.seed,
      batch_size=self.batch_size,
      parts=self.config.train.accumulate,
      steps_per_call=self.steps_per_call,
    )
    return first, count, devices.shard(arrays)

  def _validate(self, state: TrainState) -> float | None:
    """Writes a validation row and pictures; returns what ranks checkpoints,
    None if it is not finite."""
    variables = devices.replicate(
      {
        "params": state_lib.eval_params(self.config, state),
        **state.model_state,
      }
    )
    step = int(state.step)
    row = bound.mean_terms(
      self.eval_step,
      variables,
      self.held_out,
      batch_size=self.config.eval.batch_size,
      step=step,
      seed=self.config.eval.seed,
    )
    self.kept.writer.row(
      step, "validation", {**row, "epoch": step / self.steps_per_epoch}
    )
    if devices.is_lead():
      folder = storage.path(self.workdir) / "figures"
      watchdog.progress("drawing")
      summaries.validation(
        self.experiment, state, self.held_out, folder, self.kept.writer
      )
    name = "neg_elbo" if "neg_elbo" in row else "loss"
    return row[name] if math.isfinite(row[name]) else None

  def _finish(self, state: TrainState) -> None:
    if not devices.is_lead():
      return
    summaries.at_the_end(
      self.experiment,
      self.workdir,
      state,
      self.held_out,
      steps_per_epoch=self.steps_per_epoch,
    )
    rows = metrics.read_rows(self.workdir)
    last = [r for r in rows if r["split"] == "validation"][-1:]
    for row in last:
      terms = ", ".join(
        f"{k} {row[k]:.3f}"
        for k in ("loss", "neg_elbo", "distortion", "rate")
        if row.get(k) is not None
      )
      logging.info("Step %d, validation: %s", row["step"], terms)
    logging.info("Results are in %s", self.workdir)
