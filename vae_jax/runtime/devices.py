"""Devices: the only module that says `pmap`.

One mesh axis, `AXIS`, runs over all devices of all processes. A train or
evaluation step computes on the part of the batch that one device holds;
collectives over `AXIS` turn per-device values into statistics of the global
batch.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.config import ConfigError

# The axis name of every collective.
AXIS = "batch"

T = TypeVar("T")


def initialize(compilation_cache_dir: str = "") -> None:
  """Sets the folder in which JAX caches compiled programs between runs.

  It is `~/.cache/vae_jax/compiled` if it is "", and there is none for "none".
  """
  if compilation_cache_dir == "none":
    return
  folder = compilation_cache_dir or os.path.join(cache_root(), "compiled")
  try:
    pathlib.Path(folder).expanduser().mkdir(parents=True, exist_ok=True)
  except OSError as error:
    logging.warning("No compilation cache: %s", error)
    return
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
  # A second start is fast only if the many small programs are cached too.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def cache_root() -> str:
  """Returns the cache directory ($VAE_JAX_CACHE_DIR)."""
  default = os.path.join("~", ".cache", "vae_jax")
  return os.path.expanduser(os.environ.get("VAE_JAX_CACHE_DIR") or default)


def is_lead() -> bool:
  """Returns whether this is process 0, which writes the files of the run."""
  return jax.process_index() == 0


def devices() -> list[jax.Device]:
  """Returns the devices of all processes, in the order of the axis."""
  # pmap needs the devices of a process next to each other, but on some TPU
  # pods neighbors belong to different processes.
  return sorted(jax.devices(), key=lambda d: (d.process_index, d.id))


def positions() -> np.ndarray:
  """Returns the positions of this process's devices on the axis, ascending."""
  here = jax.process_index()
  return np.flatnonzero([d.process_index == here for d in devices()])


def device_count() -> int:
  """Returns the number of devices of all processes."""
  return len(devices())


def describe_devices() -> str:
  """Returns a description such as "8 x cpu (cpu) in 2 processes"."""
  first, count = jax.devices()[0], jax.process_count()
  return f"{device_count()} x {first.device_kind} ({first.platform})" + (
    f" in {count} processes" if count > 1 else ""
  )


def check_batch(field: str, size: int, parts: int = 1) -> None:
  """Raises a ConfigError unless `size`, a global batch's, is a multiple of the
  devices times `parts`, its micro-batches; `field` is the setting."""
  unit = device_count() * parts
  if size % unit:
    raise ConfigError(
      f"config.{field} is {size}; it must be a multiple of {unit} "
      f"({device_count()} devices x {parts} micro-batches), such as "
      f"{max(size // unit, 1) * unit}."
    )


def round_up(size: int) -> int:
  """Returns the smallest multiple of the device count that is >= `size`."""
  return -(-size // device_count()) * device_count()


def _sharding() -> NamedSharding:
  # The mesh axis has pmap's axis name, because with another name the first
  # call gets another input layout than the second, and compiles twice.
  return NamedSharding(
    Mesh(np.asarray(devices()), (AXIS,)), PartitionSpec(AXIS)
  )


def pmap(
  function: Callable[..., Any], *, donate_argnums: tuple[int, ...] = ()
) -> Callable[..., Any]:
  """Maps a function of one device's arguments over all devices.

  Every argument and result has a leading axis of local devices.
  """
  return jax.pmap(
    function, axis_name=AXIS, devices=devices(), donate_argnums=donate_argnums
  )


def shard(tree: T) -> T:
  """Places host arrays with a leading axis of local devices on them."""
  sharding = _sharding()
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)

  # Compiled steps take arrays of the global shape.
  def place(leaf: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(
      sharding, leaf, (device_count(), *leaf.shape[1:])
    )

  return jax.tree.map(place, tree)


def shard_global(tree: T) -> T:
  """Places this process's part of host arrays whose axis is all devices."""
  here = positions()
  return shard(jax.tree.map(lambda v: v[here], tree))


def replicate(tree: T) -> T:
  """Returns the tree on every device, with a leading axis of local devices."""
  count = len(positions())

  def copy(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return np.broadcast_to(leaf[None], (count, *leaf.shape))

  return shard(jax.tree.map(copy, tree))


def shapes(tree: Any) -> Any:
  """Returns the shapes of `replicate(tree)`, of a tree of arrays or shapes."""
  lead, sharding = (device_count(),), _sharding()
  return jax.tree.map(
    lambda v: jax.ShapeDtypeStruct(lead + v.shape, v.dtype, sharding=sharding),
    tree,
  )


def read_one(tree: T) -> T:
  """Returns a host copy of the first device's part of each leaf."""
  # Copies, because the buffers of a donated state are overwritten.
  return jax.tree.map(
    lambda v: np.array(np.asarray(v.addressable_data(0))[0]), tree
  )


def all_gather(tree: T) -> T:
  """Returns the global batch from each device's part of it, [b ...].

  For losses with a statistic of the batch (total correlation, MMD). A
  statistic of one device's part would depend on the number of devices.
  """
  return lax.all_gather(tree, AXIS, tiled=True)
