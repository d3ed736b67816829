"""The rows and checkpoints of a run, which process 0 writes for all."""

import contextlib

from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import reason
from vae_jax.runtime import devices, distributed, storage, watchdog
from vae_jax.training import checkpoint
from vae_jax.training import writer as writer_lib
from vae_jax.training.state import TrainState


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

  def has_validation(self, step: int) -> bool:
    """Returns whether there is a validation row of this step."""
    rows = writer_lib.read_rows(self.folder) if devices.is_lead() else []
    steps = [r["step"] for r in rows if r["split"] == "validation"]
    return distributed.from_lead("the last validation", step in steps)

  def save(self, state: TrainState, score: float | None) -> None:
    """Starts to write a host copy of the state; see `Checkpoints.save`."""
    if self._checkpoints is None:
      return
    with watchdog.paused(f"saving step {int(state.step)}"):
      # Rows first: none may be missing of steps that will not be repeated.
      self.writer.flush()
      self._checkpoints.save(state, self._config, score=score)

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
        logging.warning("The last rows cannot be written (%s).", reason(own))
