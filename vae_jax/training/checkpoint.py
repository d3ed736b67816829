"""Writes checkpoints with Orbax: the state, the resolved config, a checksum.

The data position is the step, which is in the state. One process writes in the
background, and a checkpoint appears under its name when it is complete. The
checksum is there because the storage format does not detect all damage.
"""

import contextlib
import json
import operator
from collections.abc import Iterator

import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers as managers

from vae_jax import config as config_lib
from vae_jax.config import reason
from vae_jax.runtime import staging, storage
from vae_jax.training import stored_state
from vae_jax.training.state import TrainState

# Name of the validation result in a checkpoint; lower is better.
SCORE = "score"


class Unsaved(Exception):
  """A checkpoint could not be written; the message names step and cause."""

  # The shells' code for an input/output error.
  exit_code = 74


def folder_of(workdir: storage.PathLike) -> storage.Path:
  """Returns the folder of a run's checkpoints."""
  folder = storage.path(workdir) / "checkpoints"
  return folder if storage.is_remote(folder) else folder.absolute()


class Checkpoints:
  """Writes the checkpoints of one workdir, and keeps the latest and best.

  The first process alone uses it, so that no other process can break a save.
  """

  def __init__(
    self, workdir: storage.PathLike, *, keep_latest: int = 1, keep_best: int = 1
  ):
    """Opens `<workdir>/checkpoints`; all checkpoints must be readable."""
    self._folder = folder_of(workdir)
    self._mirror = None
    if storage.is_remote(self._folder):
      with storage.using(self._folder):
        self._mirror = staging.Mirror(self._folder)
    folder = self._mirror.folder if self._mirror else self._folder
    folder.mkdir(parents=True, exist_ok=True)
    score = operator.itemgetter(SCORE)
    latest = managers.LatestN(keep_latest)
    best = managers.BestN(
      get_metric_fn=score,
      reverse=True,
      n=keep_best,
      keep_checkpoints_without_metrics=False,
    )
    self._manager = ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy([latest, best]),
        # Without best_fn Orbax does not write the metrics to disk.
        best_fn=score,
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

  def save(
    self, state: TrainState, config: ConfigDict, *, score: float | None
  ) -> None:
    """Starts to write a host copy of the state, unless its step is there.

    Its arrays must not be written to afterwards. `score` is the validation
    result at this step, lower is better; None = none.

    Raises:
      Unsaved: this one, or the one before it, cannot be written.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
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
        metrics=None if score is None else {SCORE: score},
        force=True,
      )
      self._saving = step
      if self._mirror is not None:
        self._mirror.copy_after(self._manager.wait_until_finished)

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
