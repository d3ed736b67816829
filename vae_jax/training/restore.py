"""The state of a run in all processes, and on storage: one process reads and
writes, and the others are given its bits over the devices.

No process waits for another inside a save, so that none can break it, and
storage is asked once however many processes there are.
"""

import contextlib
import functools
import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.runtime import devices, distributed, storage, watchdog
from vae_jax.training import checkpoint, init_from_data, metrics
from vae_jax.training import experiment as experiment_lib
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState


class Safekeeping:
  """Restores, saves and writes the rows of one run.

  Attributes:
    state: on all devices, at the start.
    host_state: a copy of it here.
    resumed: whether it is of a checkpoint.
    writer: of rows; writes nothing in all processes but the first.
  """

  def __init__(
    self,
    experiment: Experiment,
    workdir: str,
    source: datasets.Source,
    *,
    stack: contextlib.ExitStack,
  ):
    """Restores the newest checkpoint that can be read, or begins anew.

    Args:
      experiment: of the run.
      workdir: folder of the run.
      source: training images, for what of the state is set from data.
      stack: closes what is open, at the end of the run.
    """
    self._experiment, self._config = experiment, experiment.config
    self._workdir, self._stack = workdir, stack
    self._checkpoints: checkpoint.Checkpoints | None = None
    self.writer: metrics.Writer = metrics.Silent()
    initial = functools.partial(state_lib.init_state, experiment)
    like = jax.eval_shape(initial)
    found = None
    if devices.is_lead():
      found = self._open(like)
      state = found
      if state is None:
        state = jax.tree.map(np.asarray, self._from_data(initial(), source))
    else:
      state = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), like)
    self.resumed = distributed.from_lead("the checkpoint", found is not None)
    self.host_state = distributed.broadcast(state)
    self.state = devices.replicate(self.host_state)

  def _open(self, like: TrainState) -> TrainState | None:
    found, unreadable = checkpoint.restore(self._workdir, like)
    for step in unreadable:
      checkpoint.set_aside(self._workdir, step)
    self._checkpoints = checkpoint.Checkpoints(
      self._workdir,
      keep_latest=self._config.checkpoint.keep_latest,
      keep_best=self._config.checkpoint.keep_best,
    )
    self._stack.callback(self._checkpoints.close)
    return found

  def _from_data(
    self, state: TrainState, source: datasets.Source
  ) -> TrainState:
    if not init_from_data.is_needed(self._config):
      return state
    variables = {"params": state.params, **state.model_state}
    variables = init_from_data.apply(
      self._config, self._experiment.vae_eval, variables, source
    )
    return state_lib.state_of(self._experiment, variables)

  def open_writer(self, step: int) -> None:
    """Opens the rows; those after `step` are of a run that is gone."""
    if devices.is_lead():
      self.writer = self._stack.enter_context(
        metrics.Writer(self._workdir, step=step)
      )

  def validated(self, step: int) -> bool:
    """Returns whether there is a validation row of this step."""
    rows = metrics.read_rows(self._workdir) if devices.is_lead() else []
    steps = [r["step"] for r in rows if r["split"] == "validation"]
    return distributed.from_lead("validated", step in steps)

  def save(self, state: TrainState, score: float | None) -> None:
    """Starts to write a host copy of the state; see `Checkpoints.save`."""
    if self._checkpoints is None:
      return
    watchdog.progress(f"saving step {int(state.step)}")
    # Rows first: none may be missing of steps that will not be repeated.
    with watchdog.paused("saving"):
      self.writer.flush()
      self._checkpoints.save(state, self._config, score=score)

  def wait(self) -> None:
    """Returns, in all processes, when what was saved is on disk."""
    if self._checkpoints is not None:
      with watchdog.paused("saving"):
        self._checkpoints.wait()
    distributed.barrier("the checkpoint")


def load_config(workdir: str | os.PathLike[str]) -> ConfigDict:
  """Returns the resolved config of a run.

  Raises:
    ConfigError: there is no run in the folder.
  """
  path = storage.path(workdir) / "config.json"
  with storage.reaching("--workdir", workdir):
    text = path.read_text() if path.exists() else None
  if text is None:
    raise ConfigError(
      f"There is no run in {workdir} (no config.json); train one with "
      f"--mode=train, or name another folder with --workdir."
    )
  return config_lib.from_json(text)


def load_state(
  workdir: str | os.PathLike[str],
  *,
  best: bool = False,
  experiment: Experiment | None = None,
) -> TrainState:
  """Returns a host copy of a run's newest (or best) checkpoint.

  Args:
    workdir: folder of the run.
    best: whether the best by validation is wanted rather than the newest.
    experiment: of the run; None = built from its config.

  Raises:
    ConfigError: there is no run, or none of its checkpoints can be read.
  """
  experiment = experiment or experiment_lib.build(load_config(workdir))
  like = jax.eval_shape(lambda: state_lib.init_state(experiment))
  state, _ = checkpoint.restore(workdir, like, best=best)
  if state is None:
    raise ConfigError(
      f"{workdir} has no readable checkpoint yet; train with --mode=train."
    )
  return state


def load_params(
  workdir: str | os.PathLike[str], *, best: bool = False
) -> dict[str, Any]:
  """Returns the weights of a run's newest (or best) checkpoint for use:
  averaged ones where the run averages them. Needs no pickle.

  Returns:
    The `params` collection of `vae_jax.models.Vae`, numpy arrays.
  """
  experiment = experiment_lib.build(load_config(workdir))
  state = load_state(workdir, best=best, experiment=experiment)
  return state_lib.eval_params(experiment.config, state)
