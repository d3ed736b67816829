"""The rows and checkpoints of a run, which process 0 writes for all."""

import contextlib
from collections.abc import Iterator

from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import reason
from vae_jax.runtime import devices, distributed, storage, watchdog
from vae_jax.training import checkpoint, validations
from vae_jax.training import writer as writer_lib
from vae_jax.training.state import TrainState


def has_validation(workdir: storage.PathLike, step: int) -> bool:
  """Returns whether there is a validation row of a step; all processes must
  call it."""
  has = devices.is_lead() and step in validations.scores(workdir)
  return distributed.from_lead("the last validation", has)


class Store(contextlib.AbstractContextManager):
  """Writes a run's rows and checkpoints; closes both at the end of a `with`.

  Processes but the first write nothing. They do not wait for a save either, so
  that none of them can break it. `writer` takes rows and images.
  """

  def __init__(self, workdir: str, config: ConfigDict, *, step: int):
    """Opens a run that goes on after `step`."""
    self.folder = storage.path(workdir)
    self.writer = writer_lib.Writer()
    self._config = config
    self._checkpoints: checkpoint.Checkpoints | None = None
    with contextlib.ExitStack() as stack:
      if devices.is_lead():
        self._checkpoints = checkpoint.Checkpoints(
          workdir,
          keep_latest=config.checkpoint.keep_latest,
          keep_best=config.checkpoint.keep_best,
        )
        stack.callback(self._checkpoints.close)
        self.writer = writer_lib.WorkdirWriter(workdir, step=step)
      self._stack = stack.pop_all()

  def scored(self, step: int, score: float | None) -> None:
    """Ranks the checkpoint of a step; see `Checkpoints.scored`."""
    if self._checkpoints is not None:
      self._checkpoints.scored(step, score)

  @contextlib.contextmanager
  def kept(self, step: int) -> Iterator[None]:
    """Waits for the checkpoint of a step if the block fails, and says so."""
    try:
      yield
    except Exception:
      if self._checkpoints is not None:
        with watchdog.paused("saving"):
          self._checkpoints.wait()
        if self._checkpoints.has(step):
          logging.error(
            "Step %d is saved; what came after its checkpoint failed.", step
          )
      raise

  def last_step(self) -> int | None:
    """Returns the step of the last checkpoint; None if there is none, or in
    another process than the first."""
    return self._checkpoints.last_step() if self._checkpoints else None

  def check(self) -> None:
    """Raises the error of a save that has failed in the background by now."""
    if self._checkpoints is not None:
      self._checkpoints.check()

  def save(self, state: TrainState) -> None:
    """Starts to write a host copy of the state; see `Checkpoints.save`."""
    if self._checkpoints is None:
      return
    with watchdog.paused(f"saving step {int(state.step)}"):
      # Rows first: none may be missing of steps that will not be repeated.
      self.writer.flush()
      self._checkpoints.save(state, self._config)

  def wait(self) -> None:
    """Returns, in all processes, when the last checkpoint is on disk."""
    if self._checkpoints is not None:
      with watchdog.paused("saving"):
        self._checkpoints.wait()
    distributed.barrier("the checkpoint")

  def __exit__(self, kind, error, trace) -> None:
    with self._stack:
      try:
        self.writer.close()
      except Exception as own:  # Clients of object stores have no common base.
        if error is None:
          raise
        # The error that ends the block matters more.
        if str(own) != str(error):
          logging.warning("The last rows cannot be written (%s).", reason(own))
