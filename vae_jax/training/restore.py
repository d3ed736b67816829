"""Reads runs: their config, state and weights, without pickle."""

import contextlib
import errno
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import ConfigError, reason
from vae_jax.data import datasets
from vae_jax.models import Params, Variables
from vae_jax.runtime import devices, distributed, staging, storage, transfer
from vae_jax.training import (
  checkpoint,
  init_from,
  init_from_data,
  saved_config,
  stored_state,
)
from vae_jax.training import experiment as experiment_lib
from vae_jax.training import state as state_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

# System errors that say nothing about the file that was read.
_TRANSIENT = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


class Start(NamedTuple):
  """How a run starts."""

  state: TrainState  # a host copy
  resumed: bool
  origin: dict[str, Any]  # `init_from` of the record, in the first process


def restore_or_init(
  experiment: Experiment, workdir: str, source: datasets.Source
) -> Start:
  """Restores the newest readable checkpoint, or makes the initial state.

  Process 0 does so, and the others receive its bits: storage is asked once
  however many processes there are. Initial variables may depend on the images
  of `source`, or on another run. A checkpoint of an earlier release may lack
  `ema_model_state`.
  """
  like = _abstract(experiment)
  restored, origin = None, {}
  if devices.is_lead():
    state = restored = restore(workdir, like, repair=True)
    if restored is None:
      state, origin = _initial(experiment, source)
  else:
    state = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), like)
  found = {
    "resumed": restored is not None,
    "lacks": state.ema_model_state is None,
  }
  found = distributed.from_lead("the checkpoint", found)
  if found["lacks"]:
    state = state.replace(ema_model_state=None)
  return Start(distributed.broadcast(state), found["resumed"], origin)


def check_origin(experiment: Experiment, workdir: storage.PathLike) -> None:
  """Checks that a run which starts in a workdir can have the weights of
  `config.init_from`; reads no weights.

  Raises:
    ConfigError: there is no such run, or it is another model.
  """
  config = experiment.config
  if config.init_from and not steps(workdir):
    with _opening(config):
      other = _origin(config)
    init_from.fitting(config, *map(_variables, (experiment, other)))


def _abstract(experiment: Experiment) -> TrainState:
  return jax.eval_shape(lambda: state_lib.init_state(experiment))


def _initial(
  experiment: Experiment, source: datasets.Source
) -> tuple[TrainState, dict[str, Any]]:
  """Returns the initial state, and `Start.origin`."""
  state, config = state_lib.init_state(experiment), experiment.config
  variables, origin = {"params": state.params, **state.model_state}, {}
  if init_from_data.is_needed(config):
    vae = experiment.vae_eval
    variables = init_from_data.apply(config, vae, variables, source)
  if config.init_from:
    variables, origin = _from_other_run(config, variables)
  if origin or init_from_data.is_needed(config):
    state = state_lib.state_of(experiment, variables)
  return jax.tree.map(np.asarray, state), origin


def _from_other_run(
  config: ConfigDict, variables: Variables
) -> tuple[Variables, dict[str, Any]]:
  """Returns variables with those of the run that `config.init_from` names, and
  `Start.origin`."""
  with _opening(config):
    other = _origin(config)
    state = load_state(config.init_from, experiment=other, weights=True)
  theirs = state_lib.eval_variables(other.config, state)
  merged = init_from.merge(config, variables, theirs)
  origin = {
    "workdir": str(storage.path(config.init_from)),
    "step": int(state.step),
    "parts": init_from.parts(config) if config.init_from_parts else "all",
    "averaged": state_lib.has_averages(state),
  }
  logging.info("The first weights are those of %s.", origin)
  return merged, {"init_from": origin}


def _origin(config: ConfigDict) -> Experiment:
  return experiment_lib.build(load_config(config.init_from, "config.init_from"))


@contextlib.contextmanager
def _opening(config: ConfigDict) -> Iterator[None]:
  """Names `config.init_from` in the errors of the block."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(
      f"config.init_from is {config.init_from!r}, which cannot be used: {error}"
    ) from error


def _variables(experiment: Experiment) -> Variables:
  """Returns shapes and types of all variables."""
  state = _abstract(experiment)
  return {"params": state.params, **state.model_state}


def restore(
  workdir: storage.PathLike,
  like: TrainState,
  *,
  best: bool = False,
  repair: bool = False,
  weights: bool = False,
) -> TrainState | None:
  """Returns the newest (or best) readable state; None without checkpoints.

  Orbax's manager is not used, because one broken file would stop it; `repair`
  renames unreadable checkpoints, which the manager of a run that goes on could
  not open; `weights` leaves the optimizer's state out, as None. Of the state
  `like` only shapes and types are read.

  Raises:
    ConfigError: there are checkpoints, but none can be read.
    storage.Unreachable: an object store fails.
  """
  folder = checkpoint.folder_of(workdir)
  abstract = jax.eval_shape(lambda state: state, like)
  candidates, state = steps(workdir), None
  damages: dict[int, str] = {}
  if best:
    candidates = _ranked(workdir, candidates)
  for step in reversed(candidates):
    # An error while it is copied is no damage of the checkpoint.
    with staging.local(folder / str(step)) as copy:
      try:
        state = stored_state.read(copy, abstract, weights=weights)
        _check_shapes(folder / str(step), state, abstract)
        break
      except ConfigError:
        raise
      except Exception as error:  # Orbax's errors have no common base.
        damages[step] = _damage(error)
  for step, damage in damages.items():
    what = f"The checkpoint of step {step} in {folder}"
    logging.warning("%s cannot be read (%s).", what, damage)
  if damages and state is None:
    # What has just failed is no advice.
    origin = f", or from its weights with --config.init_from={workdir}"
    raise ConfigError(
      f"None of the checkpoints in {folder} can be read (steps "
      f"{', '.join(map(str, sorted(damages)))}); start over with another "
      f"--workdir{'' if weights else origin}."
    )
  if damages:
    logging.warning("Using the one of step %d instead.", int(state.step))
  for step in sorted(damages) if repair else ():
    _set_aside(folder / str(step))
  return state


def steps(workdir: storage.PathLike) -> list[int]:
  """Returns the steps of the complete checkpoints on disk, oldest first."""
  folder = checkpoint.folder_of(workdir)
  with storage.using(folder):
    return sorted(int(p.name) for p in staging.complete(folder))


def _ranked(workdir: storage.PathLike, steps: list[int]) -> list[int]:
  """Returns the steps with a validation, the best one last; all of them, in
  their order, if none has one."""
  with storage.using(workdir):
    scores = checkpoint.scores(workdir)
  scored = [step for step in steps if scores.get(step) is not None]
  if steps and not scored:
    logging.warning(
      "%s has no validation of its checkpoints: the latest one is taken for "
      "the best.",
      workdir,
    )
  # Stable: the newer one of equal scores comes last.
  return sorted(scored, key=lambda step: -scores[step]) or steps


def _check_shapes(
  folder: storage.Path, state: TrainState, abstract: TrainState
) -> None:
  """Raises a ConfigError if weights have other shapes than the config's."""
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(state.params),
    jax.tree.leaves(abstract.params),
    strict=True,
  )
  for (path, stored), expected in pairs:
    if stored.shape != expected.shape:
      name = "/".join(key.key for key in path)
      raise ConfigError(
        f"{folder} does not fit config.json: its {name} is {stored.shape}, the "
        f"config's is {expected.shape}."
      )


def _damage(error: Exception) -> str:
  """Re-raises transient errors; returns the reason for all others, which mean
  a corrupt checkpoint."""
  transient = isinstance(error, OSError) and error.errno in _TRANSIENT
  if transient or isinstance(error, MemoryError):
    raise error
  return reason(error)


def _set_aside(folder: storage.Path) -> None:
  """Renames an unreadable checkpoint."""
  aside = folder.with_name(f"unreadable-{folder.name}-{time.time_ns()}")
  with storage.using(folder):
    transfer.rename(folder, aside)
  logging.warning("The unreadable checkpoint is now %s.", aside)


def load_config(
  workdir: storage.PathLike, field: str = "--workdir"
) -> ConfigDict:
  """Returns the resolved config of the run that a field names; a ConfigError if
  there is none."""
  with storage.reaching(field, workdir):
    config = saved_config.read(workdir)
  if config is None:
    raise ConfigError(
      f"There is no run in {workdir} (no config.json); train one with "
      f"--mode=train, or name another folder with {field}."
    )
  return config


def load_state(
  workdir: storage.PathLike,
  *,
  best: bool = False,
  experiment: Experiment | None = None,
  weights: bool = False,
) -> TrainState:
  """Returns a host copy of a run's newest (or best) checkpoint.

  The `experiment` is built from the run's config if it is None; `weights`
  leaves the optimizer's state out, as None.

  Raises:
    ConfigError: there is no run, or none of its checkpoints can be read.
  """
  experiment = experiment or experiment_lib.build(load_config(workdir))
  state = restore(workdir, _abstract(experiment), best=best, weights=weights)
  if state is None:
    raise ConfigError(
      f"{workdir} has no readable checkpoint yet; train with --mode=train."
    )
  return state


def load_params(workdir: storage.PathLike, *, best: bool = False) -> Params:
  """Returns the weights of a run's newest (or best) checkpoint for use, numpy
  arrays: averaged ones where the run averages them."""
  experiment = experiment_lib.build(load_config(workdir))
  state = load_state(workdir, best=best, experiment=experiment, weights=True)
  return state_lib.eval_params(experiment.config, state)
