"""Writes checkpoints with Orbax: the state, the resolved config, a checksum.

The data position is the step, which is in the state. One process writes in the
background, and a checkpoint appears under its name when it is complete. The
checksum is there because the storage format does not detect all damage.
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers as managers

from vae_jax import config as config_lib
from vae_jax.config import reason
from vae_jax.runtime import staging, storage
from vae_jax.training import stored_state, validations
from vae_jax.training.state import TrainState

# A disk with fewer free bytes is full, when a write has failed.
_FULL = 10_000_000


class Unsaved(Exception):
  """A checkpoint could not be written; the message names step and cause."""

  # The shells' code for an input/output error.
  exit_code = 74


def folder_of(workdir: storage.PathLike) -> storage.Path:
  """Returns the folder of a run's checkpoints."""
  folder = storage.path(workdir) / "checkpoints"
  return folder if storage.is_remote(folder) else folder.absolute()


def scores(workdir: storage.PathLike) -> validations.Scores:
  """Returns the scores of validations by step: those of `metrics.jsonl`, and
  those that earlier releases kept in checkpoints."""
  found = validations.scores(workdir)
  for folder in staging.complete(folder_of(workdir)):
    path = folder / "metrics" / "metrics"
    if found.get(int(folder.name)) is None and path.exists():
      # A damaged one says nothing about the state beside it.
      with contextlib.suppress(ValueError, KeyError, TypeError):
        value = json.loads(path.read_text())["score"]
        found[int(folder.name)] = None if value is None else float(value)
  return found


def _free(folder: pathlib.Path) -> int:
  try:
    return shutil.disk_usage(folder).free
  except OSError:
    return _FULL


class _Best:
  """Orbax's policy of keeping the checkpoints with the best scores.

  Its own one ranks by scores that are known when a checkpoint is saved; here a
  validation comes after the save, which it could otherwise lose.
  """

  def __init__(self, count: int, scores: validations.Scores):
    self._count, self._scores = count, scores

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: managers.PreservationContext
  ) -> list[bool]:
    del context
    steps = [info.step for info in checkpoints]
    scored = [step for step in steps if self._scores.get(step) is not None]
    # Stable: the newer one of equal scores is the better one.
    ranked = sorted(reversed(scored), key=self._scores.get)
    return [step in ranked[: self._count] for step in steps]


class Checkpoints:
  """Writes the checkpoints of one workdir, and keeps the latest and best.

  The first process alone uses it, so that no other process can break a save.
  """

  def __init__(
    self, workdir: storage.PathLike, *, keep_latest: int = 1, keep_best: int = 1
  ):
    """Opens `<workdir>/checkpoints`; all checkpoints must be readable."""
    with storage.using(workdir):
      self._scores = scores(workdir)
    self._folder = folder_of(workdir)
    self._mirror = None
    if storage.is_remote(self._folder):
      with storage.using(self._folder):
        self._mirror = staging.Mirror(self._folder)
    folder = self._mirror.folder if self._mirror else self._folder
    folder.mkdir(parents=True, exist_ok=True)
    latest = managers.LatestN(keep_latest)
    best = _Best(keep_best, self._scores)
    self._manager = ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy([latest, best]),
        create=False,
        multiprocessing_options=stored_state.this_process(),
      ),
      # At an address each file takes a request, so that OCDBT puts all arrays
      # in a few files. In a folder each array has its own file, because
      # TensorStore 0.1.86 leaks some 340 bytes for each array of OCDBT.
      handler_registry=ocp.handlers.create_default_handler_registry(
        state=ocp.StandardCheckpointHandler(
          use_ocdbt=self._mirror is not None,
          multiprocessing_options=stored_state.this_process(),
        )
      ),
    )
    self._saving: int | None = None

  def save(self, state: TrainState, config: ConfigDict) -> None:
    """Starts to write a host copy of the state, unless its step is there.

    Its arrays must not be written to afterwards.

    Raises:
      Unsaved: this one, or the one before it, cannot be written.
    """
    step = int(state.step)
    if self.has(step):
      return
    with self._or_unsaved():
      self._saving = self._saving or step
      if self._mirror is not None:
        # Orbax may now remove files that are still being copied.
        self._mirror.wait()
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(stored_state.content(state)),
          config=ocp.args.JsonSave(json.loads(config_lib.to_json(config))),
          checksum=ocp.args.JsonSave(stored_state.checksums(state)),
        ),
        force=True,
      )
      self._saving = step
      if self._mirror is not None:
        self._mirror.copy_after(self._manager.wait_until_finished)

  def scored(self, step: int, score: float | None) -> None:
    """Ranks the checkpoint of a step by its validation, which has been written
    to `metrics.jsonl`; lower is better, None = not finite."""
    self._scores[step] = score

  def has(self, step: int) -> bool:
    """Returns whether a step is saved, or is being saved."""
    return step in self._manager.all_steps()

  def last_step(self) -> int | None:
    """Returns the step of the last checkpoint, None if there is none."""
    return max(self._manager.all_steps(), default=None)

  def check(self) -> None:
    """Raises `Unsaved` if the last save has failed by now; does not wait."""
    if self._mirror is not None and not self._mirror.is_done():
      return
    if not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Returns when the last checkpoint is complete; raises `Unsaved`."""
    with self._or_unsaved():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()
      if self._mirror is not None:
        self._mirror.wait()

  def close(self) -> None:
    """Waits, and stops the background threads."""
    with self._or_unsaved(), contextlib.ExitStack() as stack:
      if self._mirror is not None:
        stack.callback(self._mirror.close)
      self._manager.close()

  def _why(self, error: Exception) -> str:
    """Returns why a checkpoint could not be written."""
    here = self._mirror.folder if self._mirror else self._folder
    # TensorStore's message names one of many arrays, at length.
    if "RESOURCE_EXHAUSTED" in str(error) and _free(here) < _FULL:
      full = os.strerror(errno.ENOSPC)
      return f"{full}, in {here}" if self._mirror else full
    return reason(error)

  @contextlib.contextmanager
  def _or_unsaved(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # Orbax's errors have no common base.
      text = (
        f"The checkpoint of step {self._saving} cannot be written to "
        f"{self._folder} ({self._why(error)})."
      )
      before = [s for s in self._manager.all_steps() if s != self._saving]
      if before:
        text += (
          f" Those before it are intact: the same command goes on from step "
          f"{max(before)}."
        )
      raise Unsaved(text) from error
