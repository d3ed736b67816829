"""The training run: `train(config, workdir)`, to be read top to bottom."""

import collections
import contextlib
import functools
import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import (
  build,
  checkpoint,
  metrics,
  parallel,
  pictures,
  startup,
  step_log,
  storage,
  train_step,
  validation,
)
from vae_jax import progress as progress_lib
from vae_jax import workdir as workdir_lib
from vae_jax.data import cache, datasets, pipeline
from vae_jax.evaluate import bounds

# Dispatches that may wait for the device. Without a bound the host runs ahead
# until simulated devices starve one another and deadlock.
_RUN_AHEAD = 2


class Interrupted(Exception):
  """A signal ended the run after a checkpoint; the same command goes on."""

  # Distinct from failure, so that a launcher knows to start it again.
  exit_code = 75


def train(config: ConfigDict, workdir: str) -> train_step.TrainState:
  """Trains, or goes on training, a model; returns a host copy of its state.

  The same config on the same workdir resumes, and ends in the same bits as
  if it had never been stopped. Under `workdir` it writes `config.json`,
  `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `figures/`.

  Args:
    config: of `vae_jax.config.default()`, changed at will.
    workdir: folder of the run.

  Raises:
    ConfigError: a setting is wrong, in one sentence, before any work.
    Interrupted: on SIGTERM or Ctrl-C, after saving.
    step_log.Diverged: too many steps in a row were not finite.
  """
  return fit(config, workdir)[0]


def fit(
  config: ConfigDict, workdir: str
) -> tuple[train_step.TrainState, startup.Costs]:
  """Returns `train`'s state, and what the run cost."""
  validation.validate(config)
  parallel.check_batch(
    "train.batch_size", config.train.batch_size, config.train.accumulate
  )
  splits = datasets.open_splits(config.data)
  config = startup.resolve(config, splits)
  startup.check(config, splits)
  with workdir_lib.claim(workdir, config):
    return _Run(config, workdir, splits).go()


class _Run:
  """One run from its start, or from its last checkpoint, to its end."""

  def __init__(self, config: ConfigDict, workdir: str, splits: datasets.Splits):
    self.config, self.workdir, self.splits = config, workdir, splits
    self.source = cache.open_source(splits.train, config.data)
    self.held_out = cache.open_source(splits.validation, config.data)
    self.batch_size = config.train.batch_size
    self.steps_per_epoch = len(self.source) / self.batch_size
    self.num_steps = startup.total_steps(config, len(self.source))
    self.steps_per_call = startup.steps_per_call(config)
    self.validate_every = config.train.validate_every_steps or max(
      1, round(self.steps_per_epoch)
    )

  def go(self) -> tuple[train_step.TrainState, startup.Costs]:
    """Restores or initialises, compiles, and runs the loop."""
    config, shape = self.config, self.config.data.image_shape
    with contextlib.ExitStack() as stack:
      initial = functools.partial(
        train_step.init_state, config, shape, self.num_steps
      )
      host_state, unreadable = checkpoint.restore(
        self.workdir, jax.eval_shape(initial)
      )
      for step in unreadable:
        checkpoint.set_aside(self.workdir, step)
      self.checkpoints = checkpoint.Checkpoints(
        self.workdir,
        keep_latest=config.checkpoint.keep_latest,
        keep_best=config.checkpoint.keep_best,
      )
      stack.callback(self.checkpoints.close)
      resumed = host_state is not None
      if not resumed:
        host_state = jax.tree.map(np.asarray, self._from_data(initial()))
      start = int(host_state.step)
      if start >= self.num_steps:
        logging.info("This run is finished: %d steps.", start)
        self._finish(host_state)
        return host_state, startup.Costs()

      state = parallel.replicate(host_state)
      self.seeds = parallel.replicate(np.uint32(config.seed))
      example = self._load((start, 0))[2]
      train_steps, costs = startup.compile_step(
        train_step.make_train_steps(config, shape, self.num_steps),
        (state, example, parallel.replicate(np.int32(0)), self.seeds),
        images_per_step=self.batch_size // parallel.device_count(),
      )
      self.eval_step = train_step.make_eval_step(config, shape)
      startup.describe(
        config,
        self.workdir,
        self.splits,
        host_state,
        num_steps=self.num_steps,
        costs=costs,
      )
      if resumed:
        logging.info("Going on from step %d of %d.", start, self.num_steps)
      self.writer = metrics.Writer(self.workdir, step=start)
      stack.callback(self.writer.close)
      stop_requested = stack.enter_context(_signals())
      rows = metrics.read_rows(self.workdir)
      validated = [r["step"] for r in rows if r["split"] == "validation"]
      if resumed and self._due(start, self.validate_every):
        if start not in validated:
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

  def _from_data(self, state: train_step.TrainState) -> train_step.TrainState:
    if not build.reads_data(self.config):
      return state
    variables = {"params": state.params, **state.model_state}
    variables = build.init_from_data(self.config, variables, self.source)
    return train_step.state_of(self.config, variables, self.num_steps)

  def _loop(
    self,
    train_steps: Callable[..., Any],
    state: train_step.TrainState,
    start: int,
    skipped_in_row: int,
    stop_requested: Callable[[], bool],
    costs: startup.Costs,
  ) -> train_step.TrainState:
    watch = progress_lib.Stopwatch()
    bar = progress_lib.Progress(
      start=start,
      stop=self.num_steps,
      batch_size=self.batch_size,
      epoch=self.steps_per_epoch,
    )
    log = step_log.StepLog(
      self.config,
      self.writer,
      watch,
      bar,
      steps_per_epoch=self.steps_per_epoch,
      skipped_in_row=skipped_in_row,
    )
    running: collections.deque[Any] = collections.deque()
    data = pipeline.prefetch(self._load, self._dispatches(start))
    with contextlib.closing(bar), contextlib.closing(data):
      while True:
        with watch.waiting():
          first, count, arrays = next(data)
        state, history = train_steps(
          state, arrays, parallel.replicate(np.int32(count)), self.seeds
        )
        if first == start:
          # The first dispatch also loads the program and fills the queue.
          parallel.wait(history)
          watch.restart()
          logging.info("The first %d steps are done.", count)
        else:
          watch.images += count * self.batch_size
        running.append((first, count, history))
        step = first + count
        stopping = stop_requested() and step < self.num_steps
        validating = not stopping and self._due(step, self.validate_every)
        saving = self._due(step, self.config.checkpoint.every_steps)
        pause = stopping or validating or saving
        while len(running) >= (1 if pause else _RUN_AHEAD):
          log.add(*running.popleft())
        bar.update(step)
        if not pause:
          continue

        log.flush(step)
        with watch.beside():
          host_state = parallel.read_one(state)
          score = self._validate(host_state) if validating else None
          # What a diverging run leaves must not push out what was good.
          # Rows first: none may be missing of steps that will not be repeated.
          self.writer.flush()
          if stopping or not host_state.skipped_in_row:
            self.checkpoints.save(host_state, self.config, score=score)
          if stopping:
            self.checkpoints.wait()
            raise Interrupted(
              f"Stopped at step {step} of {self.num_steps} and saved it; the "
              "same command goes on from there."
            )
        if step == self.num_steps:
          break
    costs.images, costs.seconds = watch.images, watch.seconds
    costs.waited = watch.waited
    self.checkpoints.wait()
    return host_state

  def _due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.num_steps

  def _dispatches(self, start: int) -> Iterator[tuple[int, int]]:
    """Yields (first step, steps), cut where validation or a save is due."""
    first = start
    while first < self.num_steps:
      last = min(first + self.steps_per_call, self.num_steps)
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
    return first, count, parallel.shard(arrays)

  def _validate(self, state: train_step.TrainState) -> float | None:
    """Writes a validation row and pictures; returns what ranks checkpoints,
    None if it is not finite."""
    variables = parallel.replicate(
      {
        "params": train_step.eval_params(self.config, state),
        **state.model_state,
      }
    )
    step = int(state.step)
    row = bounds.mean_terms(
      self.eval_step,
      variables,
      self.held_out,
      batch_size=self.config.eval.batch_size,
      step=step,
      seed=self.config.eval.seed,
    )
    self.writer.row(
      step, "validation", {**row, "epoch": step / self.steps_per_epoch}
    )
    folder = storage.path(self.workdir) / "figures"
    pictures.validation(self.config, state, self.held_out, folder, self.writer)
    name = "neg_elbo" if "neg_elbo" in row else "loss"
    return row[name] if math.isfinite(row[name]) else None

  def _finish(self, state: train_step.TrainState) -> None:
    pictures.at_the_end(
      self.config,
      self.workdir,
      state,
      self.held_out,
      label_names=self.splits.label_names,
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


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
  """Yields whether SIGTERM or Ctrl-C came; a second one acts at once."""
  came: list[int] = []
  previous: dict[int, Any] = {}

  def restore() -> None:
    for number, handler in previous.items():
      signal.signal(number, handler)

  def handle(number: int, frame: Any) -> None:
    del frame
    came.append(number)
    restore()
    logging.info("Saving after the current steps; a second signal stops now.")

  try:
    for number in (signal.SIGTERM, signal.SIGINT):
      previous[number] = signal.signal(number, handle)
  except ValueError:
    # Only the main thread may handle signals; a notebook's worker may not.
    pass
  try:
    yield lambda: bool(came)
  finally:
    restore()
