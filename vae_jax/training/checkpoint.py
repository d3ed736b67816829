"""Checkpoints through Orbax: the state, and the resolved config beside it.

The data position is the step, which is in the state. Checkpoints are written
in the background by one process, appear under their name only when complete,
and are read without pickle. A checksum of the state lies beside it, since the
storage format does not notice all damage.
"""

import contextlib
import errno
import json
import os
import pathlib
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, reason
from vae_jax.runtime import staging, storage, transfer
from vae_jax.training.state import TrainState

# What a checkpoint's validation result is stored as; lower is better.
_SCORE = "score"
# Errors of the system that say nothing of the file.
_PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


class Unsaved(Exception):
  """A checkpoint could not be written; says which, where and why."""

  # That of the shells for an input/output error.
  exit_code = 74


def _alone() -> ocp.options.MultiprocessingOptions:
  """Returns what keeps Orbax from waiting for other processes."""
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  here = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=here,
    active_processes={here},
    barrier_sync_key_prefix=f"process{here}",
  )


class Checkpoints:
  """Writes the checkpoints of one workdir: the latest and the best ones.

  Used by the lead process alone: what the others do cannot break a save.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    keep_latest: int = 1,
    keep_best: int = 1,
  ):
    """Opens `<workdir>/checkpoints`; all there must be readable."""
    self._folder = _folder(workdir)
    self._mirror = None
    if storage.is_remote(self._folder):
      with storage.using(self._folder):
        self._mirror = staging.Mirror(self._folder)
    folder = self._mirror.folder if self._mirror else self._folder
    folder.mkdir(parents=True, exist_ok=True)
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
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
        # Without best_fn Orbax does not write the metrics to disk.
        best_fn=lambda metrics: metrics[_SCORE],
        create=False,
        multiprocessing_options=_alone(),
      ),
      # At an address each file takes a request: all arrays in a few (OCDBT). In
      # a folder each has its own: TensorStore 0.1.86 loses some 340 bytes of
      # memory for each array that OCDBT saves.
      handler_registry=ocp.handlers.create_default_handler_registry(
        state=ocp.StandardCheckpointHandler(
          use_ocdbt=self._mirror is not None,
          multiprocessing_options=_alone(),
        )
      ),
    )
    self._saving: int | None = None

  def save(
    self,
    state: TrainState,
    config: ConfigDict,
    *,
    score: float | None,
  ) -> None:
    """Starts to write a host copy of the state, unless its step is there.

    Args:
      state: host copy; its arrays must not be written to afterwards.
      config: resolved config.
      score: validation result at this step, lower is better; None = none.

    Raises:
      Unsaved: this one, or the one before it, cannot be written.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    with self._or_unsaved():
      self._saving = self._saving or step
      if self._mirror is not None:
        # Orbax may now remove what was still being copied.
        self._mirror.wait()
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          config=ocp.args.JsonSave(json.loads(config_lib.to_json(config))),
          checksum=ocp.args.JsonSave({"crc32": checksum(state)}),
        ),
        metrics=None if score is None else {_SCORE: score},
        force=True,
      )
      self._saving = step
      if self._mirror is not None:
        self._mirror.copy_after(self._manager.wait_until_finished)

  def wait(self) -> None:
    """Returns when what was saved is complete on disk.

    Raises:
      Unsaved: it could not be written.
    """
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

  @contextlib.contextmanager
  def _or_unsaved(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # Orbax's errors have no common base.
      raise Unsaved(
        f"The checkpoint of step {self._saving} cannot be written to "
        f"{self._folder} ({reason(error)}). The ones before it are intact: "
        "the same command goes on from the last of them."
      ) from error


def checksum(state: Any) -> int:
  """Returns the CRC-32 of all arrays of a tree, in its order."""
  crc = 0
  for leaf in jax.tree.leaves(state):
    # Of bytes: bfloat16 and its kin have no buffers.
    crc = zlib.crc32(np.ravel(leaf).view(np.uint8), crc)
  return crc


def _folder(workdir: str | os.PathLike[str]) -> storage.Path:
  folder = storage.path(workdir) / "checkpoints"
  return folder if storage.is_remote(folder) else folder.absolute()


def steps(workdir: str | os.PathLike[str]) -> list[int]:
  """Returns the steps of the complete checkpoints on disk, oldest first."""
  folder = _folder(workdir)
  with storage.using(folder):
    return sorted(int(p.name) for p in staging.complete(folder))


def _score(workdir: str | os.PathLike[str], step: int) -> float | None:
  """Returns the validation result of a checkpoint, None if it has none."""
  path = _folder(workdir) / str(step) / "metrics" / "metrics"
  with storage.using(path):
    text = path.read_text() if path.exists() else None
  return None if text is None else json.loads(text)[_SCORE]


def _read(folder: pathlib.Path, abstract: TrainState) -> TrainState:
  """Returns the state of a local checkpoint, if it is what was saved."""
  with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as reader:
    restored = reader.restore(folder / "state", abstract)
  state = jax.tree.map(np.asarray, restored)
  # Checkpoints of an earlier release have none.
  if (folder / "checksum").exists():
    stored = json.loads((folder / "checksum" / "metadata").read_text())
    if checksum(state) != stored["crc32"]:
      raise ValueError("its content is not what was saved")
  return state


def _damage(error: Exception) -> str:
  """Returns what an error says of the file that was read; raises it if it says
  nothing of it: files that come and go, or a machine in trouble."""
  passing = isinstance(error, OSError) and error.errno in _PASSING
  if passing or isinstance(error, MemoryError):
    raise error
  return reason(error)


def restore(
  workdir: str | os.PathLike[str],
  like: TrainState,
  *,
  best: bool = False,
) -> tuple[TrainState | None, list[int]]:
  """Returns the newest (or best) state that can be read, and what cannot.

  The manager is not asked: one broken file among all would stop it.

  Args:
    workdir: folder of the run.
    like: a state of the same structure; only shapes and types are read.
    best: whether the best by validation is wanted rather than the newest.

  Returns:
    The state, None if there is no checkpoint, and the unreadable steps.

  Raises:
    ConfigError: there are checkpoints, but none can be read.
    storage.Unreachable: an object store fails, which says nothing of them.
  """
  abstract = jax.tree.map(
    lambda v: jax.ShapeDtypeStruct(np.shape(v), v.dtype), like
  )
  candidates, state = [], None
  unreadable: dict[int, str] = {}
  for step in steps(workdir):
    try:
      candidates.append((step, _score(workdir, step)))
    except (OSError, ValueError, KeyError) as error:
      unreadable[step] = _damage(error)
  if best:
    scored = [c for c in candidates if c[1] is not None]
    # Stable: where scores are equal the newer one comes last.
    candidates = sorted(scored, key=lambda c: -c[1]) or candidates
  for step, _ in reversed(candidates):
    # What keeps a whole copy from being had is no damage either.
    with staging.local(_folder(workdir) / str(step)) as folder:
      try:
        state = _read(folder, abstract)
        break
      except Exception as error:  # Orbax's errors have no common base.
        unreadable[step] = _damage(error)
  for step, damage in unreadable.items():
    logging.warning(
      "The checkpoint of step %d in %s cannot be read (%s).",
      step,
      _folder(workdir),
      damage,
    )
  if unreadable and state is None:
    raise ConfigError(
      f"None of the checkpoints in {_folder(workdir)} can be read (steps "
      f"{', '.join(map(str, sorted(unreadable)))}); start over with another "
      "--workdir."
    )
  if unreadable:
    logging.warning("Using the one of step %d instead.", int(state.step))
  return state, sorted(unreadable)


def set_aside(workdir: str | os.PathLike[str], step: int) -> None:
  """Renames a checkpoint that cannot be read, so that the run can go on."""
  path = _folder(workdir) / str(step)
  aside = path.with_name(f"unreadable-{step}-{time.time_ns()}")
  with storage.using(path):
    transfer.rename(path, aside)
  logging.warning("The unreadable checkpoint is now %s.", aside)
