"""Devices: the only module that says `pmap`.

One mesh axis, `AXIS`, runs over all devices of all processes. A train or
evaluation step is written for the part of the batch that one device holds;
`psum`, `pmean` and `all_gather` make of it statistics of the global batch.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vae_jax.config import ConfigError

# The axis name of every collective.
AXIS = "batch"

T = TypeVar("T")

_own_devices_only = False


def initialize(compilation_cache_dir: str = "") -> None:
  """Starts JAX: where compiled programs are kept between runs.

  Args:
    compilation_cache_dir: folder; "" = `~/.cache/vae_jax/compiled`, "none" =
      compile anew in each process.
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
  # A second start is fast only if the many small programs are kept too.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def cache_root() -> str:
  """Returns the folder of what can be made again: $VAE_JAX_CACHE_DIR."""
  default = os.path.join("~", ".cache", "vae_jax")
  return os.path.expanduser(os.environ.get("VAE_JAX_CACHE_DIR") or default)


def is_lead() -> bool:
  """Returns whether this process writes what the run leaves behind."""
  return jax.process_index() == 0


@contextlib.contextmanager
def own_devices() -> Iterator[None]:
  """Inside, the axis runs over this process's own devices alone."""
  global _own_devices_only
  before, _own_devices_only = _own_devices_only, True
  try:
    yield
  finally:
    _own_devices_only = before


def process_count() -> int:
  """Returns the number of processes whose devices the axis runs over."""
  return 1 if _own_devices_only else jax.process_count()


def devices() -> list[jax.Device]:
  """Returns the devices of all processes, in the order of the axis."""
  if _own_devices_only:
    return jax.local_devices()
  # On some TPU pods neighbours belong to different processes, whose devices
  # pmap wants side by side.
  return sorted(jax.devices(), key=lambda d: (d.process_index, d.id))


def positions() -> np.ndarray:
  """Returns the places on the axis of this process's devices, ascending."""
  here = jax.process_index()
  return np.array(
    [i for i, d in enumerate(devices()) if d.process_index == here]
  )


def _local_devices() -> list[jax.Device]:
  all_devices = devices()
  return [all_devices[i] for i in positions()]


def device_count() -> int:
  """Returns the number of devices of all processes."""
  return len(devices())


def describe_local_devices() -> str:
  """Returns this process's devices in words, as "4 x cpu (cpu)"."""
  return _in_words(_local_devices())


def describe_devices() -> str:
  """Returns the devices in words, as "8 x cpu (cpu) in 2 processes"."""
  processes = process_count()
  among = f" in {processes} processes" if processes > 1 else ""
  return _in_words(devices()) + among


def _in_words(devices: list[jax.Device]) -> str:
  first = devices[0]
  return f"{len(devices)} x {first.device_kind} ({first.platform})"


def check_batch(field: str, size: int, parts: int = 1) -> None:
  """Stops with one sentence if a batch cannot be divided among the devices.

  Args:
    field: name of the setting, for the message.
    size: images in the global batch.
    parts: parts that each batch is computed in, one after another.

  Raises:
    ConfigError: `size` is no multiple of devices times parts.
  """
  unit = device_count() * parts
  if size % unit:
    raise ConfigError(
      f"config.{field} is {size}; it must be a multiple of {unit} "
      f"({device_count()} devices x {parts} parts), such as "
      f"{max(size // unit, 1) * unit}."
    )


def round_up(size: int) -> int:
  """Returns the least multiple of the number of devices from `size` on."""
  return -(-size // device_count()) * device_count()


def _sharding() -> NamedSharding:
  # The mesh axis must carry pmap's axis name: with any other, the first call
  # gets another input layout than the second, and everything compiles twice.
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
    function,
    axis_name=AXIS,
    devices=devices(),
    donate_argnums=donate_argnums,
  )


def shard(tree: T) -> T:
  """Places host arrays with a leading axis of local devices on them."""
  sharding = _sharding()
  if process_count() == 1:
    return jax.device_put(tree, sharding)

  # Compiled steps take arrays of the global shape.
  def place(leaf: Any) -> jax.Array:
    return jax.make_array_from_process_local_data(
      sharding, leaf, (device_count(), *leaf.shape[1:])
    )

  return jax.tree.map(place, tree)


def shard_global(tree: T) -> T:
  """Places this process's part of host arrays with an axis of all devices."""
  here = positions()
  return shard(jax.tree.map(lambda v: v[here], tree))


def replicate(tree: T) -> T:
  """Returns the tree on every device, with a leading axis of local devices."""
  count = len(_local_devices())

  def copy(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return np.broadcast_to(leaf[None], (count, *leaf.shape))

  return shard(jax.tree.map(copy, tree))


def broadcast(tree: T) -> T:
  """Returns process 0's tree on every device, with an axis of local devices.

  Args:
    tree: host arrays; of the others only shapes and types are read.
  """
  if process_count() == 1:
    return replicate(tree)
  mine = replicate(tree)

  def from_first(tree: Any) -> Any:
    return jax.tree.map(
      lambda v: _sum_of_bits(v, jnp.equal(axis_index(), 0)), tree
    )

  # pmap returns arrays of the local shape.
  sharding = _sharding()
  return jax.tree.map(
    lambda v: jax.make_array_from_single_device_arrays(
      (device_count(), *v.shape[1:]),
      sharding,
      [part.data for part in v.addressable_shards],
    ),
    pmap(from_first, donate_argnums=(0,))(mine),
  )


def _sum_of_bits(value: jax.Array, counts: jax.Array) -> jax.Array:
  """Returns the value of the one device where `counts` is true.

  A sum with zeros would turn -0.0 into 0.0, so that the bits are summed.
  """
  if value.dtype == bool:
    return _sum_of_bits(value.astype(jnp.uint8), counts).astype(bool)
  unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[value.dtype.itemsize]
  bits = lax.bitcast_convert_type(value, unsigned)
  # Not every backend adds up small integers.
  bits = jnp.where(counts, bits.astype(jnp.uint32), 0)
  return lax.bitcast_convert_type(psum(bits).astype(unsigned), value.dtype)


def read_one(tree: T) -> T:
  """Returns a host copy of the first device's part of each leaf."""
  # Copies, since the buffers of a donated state are written over.
  return jax.tree.map(
    lambda v: np.array(np.asarray(v.addressable_data(0))[0]), tree
  )


def wait(tree: Any) -> None:
  """Returns when the arrays are computed."""
  jax.block_until_ready(tree)


def axis_index() -> jax.Array:
  """Returns this device's position among all, inside a mapped function."""
  return lax.axis_index(AXIS)


def psum(tree: T) -> T:
  """Returns sums over all devices, inside a mapped function."""
  return lax.psum(tree, AXIS)


def pmean(tree: T) -> T:
  """Returns means over all devices, inside a mapped function."""
  return lax.pmean(tree, AXIS)


def all_gather(tree: T) -> T:
  """Returns the global batch from each device's part of it, [b ...].

  For losses with a statistic of the batch (total correlation, MMD): taken
  over one device's part, they would depend on the number of devices.
  """
  return lax.all_gather(tree, AXIS, tiled=True)
