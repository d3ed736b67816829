"""Checkpoints through Orbax: the state, and the resolved config beside it.

The data position is the step, which is in the state. Checkpoints are written
in the background, appear under their name only when complete, and are read
without pickle.
"""

import json
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from vae_jax import config as config_lib
from vae_jax import train_step
from vae_jax.config import ConfigError

# What a checkpoint's validation result is stored as; lower is better.
_SCORE = "score"


class Checkpoints:
  """The checkpoints of one workdir: the latest ones and the best ones."""

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    keep_latest: int = 1,
    keep_best: int = 1,
  ):
    """Opens `<workdir>/checkpoints`, made by the first save."""
    self._folder = pathlib.Path(workdir).absolute() / "checkpoints"
    kept = [
      checkpoint_managers.LatestN(keep_latest),
      checkpoint_managers.BestN(
        get_metric_fn=lambda metrics: metrics[_SCORE],
        reverse=True,
        n=keep_best,
        keep_checkpoints_without_metrics=False,
      ),
    ]
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
        # Without best_fn Orbax does not write the metrics to disk.
        best_fn=lambda metrics: metrics[_SCORE],
        best_mode="min",
        create=True,
      ),
    )

  def save(
    self,
    state: train_step.TrainState,
    config: ConfigDict,
    *,
    score: float | None,
  ) -> None:
    """Starts to write a host copy of the state, unless its step is there.

    Args:
      state: host copy; its arrays must not be written to afterwards.
      config: resolved config.
      score: validation result at this step, lower is better; None = none.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        config=ocp.args.JsonSave(json.loads(config_lib.to_json(config))),
      ),
      metrics=None if score is None else {_SCORE: score},
      force=True,
    )

  def steps(self) -> list[int]:
    """Returns the steps of the checkpoints on disk, oldest first."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the step of the best validation result on disk."""
    return self._manager.best_step()

  def restore(
    self,
    like: train_step.TrainState,
    *,
    best: bool = False,
    set_aside: bool = False,
  ) -> train_step.TrainState | None:
    """Returns the newest (or best) checkpoint that can be read; None if there
    is no checkpoint at all.

    Args:
      like: a state of the same structure; only shapes and types are read.
      best: whether the best by validation is wanted rather than the newest.
      set_aside: whether unreadable ones are renamed, so that the run can
        write those steps again.

    Raises:
      ConfigError: there are checkpoints, but none can be read.
    """
    abstract = jax.tree.map(
      lambda v: jax.ShapeDtypeStruct(np.shape(v), v.dtype), like
    )
    steps = self.steps()
    if best and self.best_step() in steps:
      steps.remove(self.best_step())
      steps.append(self.best_step())
    unreadable = []
    for step in reversed(steps):
      try:
        restored = self._manager.restore(
          step,
          args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
        )
      except Exception as error:  # Orbax's errors have no common base.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        logging.warning(
          "The checkpoint of step %d in %s cannot be read (%s); trying the "
          "one before it.",
          step,
          self._folder,
          reason,
        )
        unreadable.append(step)
        continue
      if set_aside:
        for number in unreadable:
          self._set_aside(number)
      return jax.tree.map(np.asarray, restored.state)
    if unreadable:
      raise ConfigError(
        f"None of the checkpoints in {self._folder} can be read (steps "
        f"{', '.join(map(str, sorted(unreadable)))}); start over with another "
        "--workdir."
      )
    return None

  def _set_aside(self, step: int) -> None:
    aside = self._folder / f"unreadable-{step}-{time.time_ns()}"
    (self._folder / str(step)).rename(aside)
    logging.warning("The unreadable checkpoint is now %s.", aside)
    self._manager.reload()

  def wait(self) -> None:
    """Returns when what was saved is complete on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and stops the background threads."""
    self._manager.close()


def load_config(workdir: str | os.PathLike[str]) -> ConfigDict:
  """Returns the resolved config of a run.

  Raises:
    ConfigError: there is no run in the folder.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    raise ConfigError(
      f"There is no run in {workdir} (no config.json); train one with "
      f"--mode=train, or name another folder with --workdir."
    )
  return config_lib.from_json(path.read_text())


def load_state(
  workdir: str | os.PathLike[str], *, best: bool = False
) -> train_step.TrainState:
  """Returns a host copy of a run's newest (or best) checkpoint.

  Raises:
    ConfigError: there is no run, or none of its checkpoints can be read.
  """
  config = load_config(workdir)
  shape = tuple(config.data.image_shape)
  like = jax.eval_shape(lambda: train_step.init_state(config, shape, 1))
  checkpoints = Checkpoints(workdir)
  try:
    state = checkpoints.restore(like, best=best)
  finally:
    checkpoints.close()
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
  state = load_state(workdir, best=best)
  return train_step.eval_params(load_config(workdir), state)
