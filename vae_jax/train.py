"""The training run: `train(config, workdir)`, to be read top to bottom."""

import collections
import contextlib
import functools
import time

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.data import arrays, pipeline
from vae_jax.evaluate import validation as validation_lib
from vae_jax.runtime import devices, distributed, logs, preemption, watchdog
from vae_jax.training import (
  contracts,
  early_stopping,
  memory,
  progress,
  restore,
  running_statistics,
  setup,
)
from vae_jax.training import loop as loop_lib
from vae_jax.training import step as step_lib
from vae_jax.training import store as store_lib
from vae_jax.training.state import TrainState


def train(
  config: ConfigDict,
  workdir: str,
  *,
  data: arrays.Data | None = None,
  costs: setup.Costs | None = None,
) -> TrainState:
  """Trains a model, or resumes its training; returns a host copy of its state.

  The same config on the same workdir resumes, and ends in the same bits as a
  run that was never stopped. Under `workdir` it writes `config.json`,
  `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `figures/`. All processes
  of a job call it, and the first one reads and writes the workdir. `data`, such
  as {"image": uint8[n h w c]} (see `data.arrays.given`), is used in place of
  `config.data.name`. `costs` receives the costs of the run.

  Raises:
    ConfigError: a setting is wrong, before any work.
    preemption.Interrupted: after SIGTERM or Ctrl-C to any process, and a save.
    progress.Diverged: too many consecutive steps were not finite.
    checkpoint.Unsaved: a checkpoint could not be written.
    storage.Unreachable: an object store fails, possibly for a while.
  """
  logs.show_in_session()
  costs = setup.Costs() if costs is None else costs
  with contextlib.ExitStack() as stack:
    if jax.process_count() > 1:
      # A signal to one process must not leave the others waiting for it.
      stack.enter_context(preemption.listening())

    # Data set, model and workdir: every ConfigError is raised here.
    run = setup.prepare(config, data)
    record = stack.enter_context(setup.claim(run, workdir))
    source, held_out = distributed.lead_first(
      lambda: (run.source("train"), run.source("validation")), "decoding images"
    )
    loop = loop_lib.plan(run)
    validation = validation_lib.Validation(run, held_out, workdir)

    # State: the newest checkpoint, or the initial variables.
    with memory.explain_oom(run.config):
      begun = restore.restore_or_init(run, workdir, source)
      host_state = running_statistics.complete(run, begun.state)
      state = devices.replicate(host_state.replace(ema_model_state=None))
    start = step = int(host_state.step)
    record.began(start, **begun.origin)
    patience = early_stopping.Patience(run.config, workdir, start)
    if start >= loop.num_steps or patience.is_over():
      logging.info("This run is finished: %d steps.", start)
      if patience.is_over():
        logging.info("%s", patience.describe())
      validation.finish(host_state)
      return host_state

    # Programs.
    load = functools.partial(loop_lib.load, run, loop, source)
    seed = devices.replicate(np.uint32(run.config.seed))
    with contracts.gradient(run):
      train_steps = setup.compile_step(
        run.config,
        step_lib.make_train_steps(run),
        (state, load((start, 0))[2], loop_lib.control(0, False), seed),
        costs,
      )
    statistics = running_statistics.Estimator(run, loop, source)
    validation.prepare(host_state, costs)
    if devices.is_lead():
      setup.describe(run, loop, workdir, host_state, costs)

    # Loop. Dispatches run ahead of the results read, by `RUN_AHEAD` at most.
    stop_requested = stack.enter_context(preemption.listening())
    with store_lib.Store(workdir, run.config, step=start) as store:
      if begun.resumed:
        logging.info("Resuming at step %d of %d.", start, loop.num_steps)
        # A signal may have come instead of the validation at this step.
        if loop.validation_due(start) and not store_lib.has_validation(
          workdir, start
        ):
          patience.add(start, validation.score(host_state, store))
      log = progress.StepLog(
        run.config, loop, store.writer, host_state, store.last_step
      )
      in_flight: collections.deque[loop_lib.Result] = collections.deque()
      dispatches = loop_lib.Dispatches(loop, start)
      batches = pipeline.prefetch(
        load, () if patience.is_over() else dispatches
      )
      stopping = False
      with (
        contextlib.closing(log.progress),
        contextlib.closing(batches),
        watchdog.armed(),
      ):
        for first, count, arrays in log.stopwatch.waiting_for(batches):
          # 1. Start the dispatch.
          begin = time.monotonic()
          state, history, stop = train_steps(
            state, arrays, loop_lib.control(count, stop_requested()), seed
          )
          watchdog.progress(watchdog.COMPUTING)
          in_flight.append(loop_lib.Result(first, count, history, stop))
          if first == start:
            # It also loads the program, and fills the queue of data.
            with memory.explain_oom(run.config):
              jax.block_until_ready(history)
            fitting = loop.fitting((time.monotonic() - begin) / count)
            # Equal in all processes, which enter each dispatch together.
            dispatches.limit = distributed.from_lead("steps", fitting)
            log.stopwatch.restart()
            logging.info("The first %d steps are done.", count)
          step = record.step = first + count

          # 2. Read results that are due, and errors of other threads.
          store.check()
          pause = loop.validation_due(step) or loop.checkpoint_due(step)
          while len(in_flight) >= (
            1 if pause or stopping else loop_lib.RUN_AHEAD
          ):
            log.add(result := in_flight.popleft())
            # All processes read the same value, and so stop together.
            stopping |= bool(devices.read_one(result.stop))
            watchdog.progress(watchdog.COMPUTING)
          log.progress.update(step)
          stopping &= step < loop.num_steps

          # 3. Save, then validate, which may fail.
          if pause or stopping:
            log.flush(step)
            with log.stopwatch.paused():
              host_state = statistics.read(state)
              # Checkpoints of a diverging run must not evict good ones.
              if stopping or not host_state.skipped_in_row:
                store.save(host_state)
              if stopping:
                store.wait()
                raise preemption.Interrupted(
                  f"Stopped at step {step} of {loop.num_steps} and saved it; "
                  "the same command resumes there."
                )
              if loop.validation_due(step):
                patience.add(step, validation.score(host_state, store))
            if patience.is_over():
              store.save(host_state)
              logging.info("%s", patience.describe())
              break
          watchdog.progress(f"fetching data after step {step}")
      costs.add(log.stopwatch)
      store.wait()
    validation.finish(host_state)
    return host_state
