"""A state in a checkpoint: its fields, its checksums, and how it is read.

A trained model opens without the optimizer's state, which another release of
the optimizer may have in another structure.
"""

import dataclasses
import json
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vae_jax.models.vae import PyTree
from vae_jax.training.state import TrainState

# Statistics of averaged weights, which earlier releases did not keep.
_OWN = "ema_model_state"
_Leaves = dict[tuple[str, ...], Any]  # by their path


def this_process() -> ocp.options.MultiprocessingOptions:
  """Returns options that keep Orbax from waiting for other processes."""
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  here = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=here,
    active_processes={here},
    barrier_sync_key_prefix=f"process{here}",
  )


def content(state: TrainState) -> dict[str, PyTree]:
  """Returns the fields that a checkpoint has, by name."""
  fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
  if fields[_OWN] is None:
    # So that runs without it have checkpoints as ever.
    del fields[_OWN]
  return fields


def checksum(tree: PyTree) -> int:
  """Returns the CRC-32 of all arrays of a tree, in its order."""
  crc = 0
  for leaf in jax.tree.leaves(tree):
    # Of bytes, because bfloat16 has no buffer protocol.
    crc = zlib.crc32(np.ravel(leaf).view(np.uint8), crc)
  return crc


def checksums(state: TrainState) -> dict[str, int]:
  """Returns the checksums of a state, and of it without the optimizer's."""
  return {
    "crc32": checksum(state),
    "weights_crc32": checksum(state.replace(opt_state=None)),
  }


def read(
  folder: pathlib.Path, like: TrainState, *, weights: bool = False
) -> TrainState:
  """Returns the state of a local checkpoint, after comparing its checksum.

  Args:
    folder: of the checkpoint.
    like: the state's structure, shapes and types.
    weights: whether to leave the optimizer's state out, as None.

  Earlier releases did not keep `ema_model_state`, which is then None.

  Raises:
    ValueError: the content is not what was saved, or of another structure.
  """
  sums, there = _stored_checksums(folder), _stored_leaves(folder / "state")
  if not any(path[0] == _OWN for path in there):
    like = like.replace(ema_model_state=None)
  fits = there.keys() == _leaves(content(like)).keys()
  # Earlier releases have a checksum of the whole state only.
  whole = not weights or (fits and "weights_crc32" not in sums)
  wanted = content(like)
  if not whole:
    del wanted["opt_state"]
    like = like.replace(opt_state=None)
  missing = _leaves(wanted).keys() - there.keys()
  if missing or (whole and not fits):
    other = min(missing or there.keys() - _leaves(wanted).keys())
    has = "lacks" if missing else "has"
    raise ValueError(f"its structure is another: it {has} {'/'.join(other)}")
  state = like.replace(**_restore(folder / "state", wanted))
  expected = sums.get("crc32" if whole else "weights_crc32")
  if expected is not None and checksum(state) != expected:
    raise ValueError("its content is not what was saved")
  return state.replace(opt_state=None) if weights else state


def _stored_checksums(folder: pathlib.Path) -> dict[str, int]:
  # Checkpoints of an earlier release have none.
  if not (folder / "checksum").exists():
    return {}
  return json.loads((folder / "checksum" / "metadata").read_text())


def _stored_leaves(folder: pathlib.Path) -> _Leaves:
  return _by_path(_handler().metadata(epath.Path(folder)).tree)


def _leaves(tree: PyTree) -> _Leaves:
  return _by_path(ocp.tree.serialize_tree(tree, keep_empty_nodes=True))


def _by_path(tree: PyTree) -> _Leaves:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    tuple(str(getattr(key, "key", None) or key.idx) for key in path): leaf
    for path, leaf in leaves
  }


def _handler() -> ocp.PyTreeCheckpointHandler:
  return ocp.PyTreeCheckpointHandler(multiprocessing_options=this_process())


def _restore(
  folder: pathlib.Path, wanted: dict[str, PyTree]
) -> dict[str, PyTree]:
  options = this_process()
  with ocp.Checkpointer(_handler(), multiprocessing_options=options) as reader:
    arguments = ocp.args.PyTreeRestore(
      item=wanted,
      partial_restore=True,
      restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
    )
    return jax.tree.map(np.asarray, reader.restore(folder, arguments))
