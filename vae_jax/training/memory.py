"""What a training run holds in memory, said before it starts.

State and data are counted from shapes, activations are what the compiler says
that the train step needs beside its arguments. Validation, which runs between
dispatches, is not counted.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax.config import ConfigError, reason
from vae_jax.runtime import devices, distributed
from vae_jax.training.state import TrainState

_CGROUPS = pathlib.Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes that one device holds while it trains.

  Attributes:
    parameters: weights.
    optimizer: its moments and counts.
    average: averaged weights; 0 without.
    model_state: collections that a forward pass updates.
    data: dispatches that are held at once.
    activations: of a step, with gradients and all other temporaries; None
      until it is compiled.
    limit: what the device has; None where it does not say.
  """

  parameters: int
  optimizer: int
  average: int
  model_state: int
  data: int
  activations: int | None
  limit: int | None

  @property
  def total(self) -> int:
    """Bytes of all parts that are known."""
    return sum(self.parts().values())

  def parts(self) -> dict[str, int]:
    """Returns bytes by name, in words, without what is not there."""
    named = {
      "parameters": self.parameters,
      "optimiser": self.optimizer,
      "average": self.average,
      "model state": self.model_state,
      "data": self.data,
      "activations": self.activations or 0,
    }
    return {k: v for k, v in named.items() if v}


def of_state(state: TrainState, data: Any, *, dispatches: int) -> Memory:
  """Returns what is known of a run before its step is compiled.

  Args:
    state: with a leading axis of local devices.
    data: of one dispatch, with that axis too.
    dispatches: how many are held at once.
  """
  return Memory(
    parameters=_bytes(state.params),
    optimizer=_bytes(state.opt_state),
    average=_bytes(state.ema_params),
    model_state=_bytes(state.model_state),
    data=dispatches * _bytes(data),
    activations=None,
    limit=limit(),
  )


def with_activations(memory: Memory, compiled: Any) -> Memory:
  """Returns the same, with what the compiled train step needs."""
  stats = compiled.memory_analysis()
  if stats is None:  # Not every backend has one.
    return memory
  # The state is donated: what it becomes takes the place of what it was.
  fresh = stats.output_size_in_bytes - stats.alias_size_in_bytes
  return dataclasses.replace(
    memory,
    activations=stats.temp_size_in_bytes
    + stats.generated_code_size_in_bytes
    + max(0, fresh),
  )


def _bytes(tree: Any) -> int:
  """Bytes on one device of arrays with a leading axis of devices."""
  return sum(
    math.prod(v.shape[1:]) * v.dtype.itemsize for v in jax.tree.leaves(tree)
  )


def limit() -> int | None:
  """Returns the bytes of a device, of a CPU its share of this machine; None
  where an accelerator does not say."""
  here = devices.positions()
  device = devices.devices()[here[0]]
  if device.platform == "cpu":
    return host_limit() // (len(here) * distributed.processes_here())
  return (device.memory_stats() or {}).get("bytes_limit")


def host_limit(
  cgroups: pathlib.Path = _CGROUPS,
  membership: pathlib.Path = pathlib.Path("/proc/self/cgroup"),
) -> int:
  """Returns the bytes this process may use: the machine's, or its cgroup's.

  Args:
    cgroups: where the control groups are mounted.
    membership: the file that says which of them the process is in, as lines
      `number:controllers:path`.
  """
  found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
  lines = membership.read_text().splitlines() if membership.exists() else []
  for line in lines:
    _, controllers, path = line.split(":", 2)
    if controllers == "":
      root, name = cgroups, "memory.max"
    elif "memory" in controllers.split(","):
      root, name = cgroups / "memory", "memory.limit_in_bytes"
    else:
      continue
    # The limit of a group holds for all groups within it.
    inner = pathlib.PurePath(path.lstrip("/"))
    for folder in (inner, *inner.parents):
      with contextlib.suppress(OSError, ValueError):
        found.append(int((root / folder / name).read_text()))
  return min(found)


def check(config: ConfigDict, memory: Memory) -> None:
  """Stops with one sentence if the devices are too small for a run.

  Raises:
    ConfigError: with the sums, the limit, and what would need less.
  """
  if memory.limit is not None and memory.total > memory.limit:
    raise ConfigError(
      f"This run does not fit: each device would hold {_size(memory.total)} "
      f"({_sums(memory)}) and has {_size(memory.limit)}; {_advice(config)}"
    )


@contextlib.contextmanager
def refusals(
  config: ConfigDict, memory: Memory | None = None
) -> Iterator[None]:
  """Says in the same words that JAX itself found no room.

  Args:
    config: the resolved config.
    memory: what is known of the run, if anything.

  Raises:
    ConfigError: instead of JAX's RESOURCE_EXHAUSTED.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    first = reason(error)
    if "RESOURCE_EXHAUSTED" not in first:
      raise
    known = f"beside {_sums(memory)}, " if memory else ""
    raise ConfigError(
      f"This run does not fit: {known}of {_size(limit())} on each device no "
      f"room was left ({first}); {_advice(config)}"
    ) from error


def _advice(config: ConfigDict) -> str:
  batch, parts = config.train.batch_size, config.train.accumulate
  ways = [f"config.train.accumulate={2 * parts}"] if batch > parts else []
  if not config.model.remat:
    ways.insert(0, "config.model.remat=True")
  ways.append(f"a config.train.batch_size below {batch:,}")
  if config.model.dtype == "float32":
    ways.append("config.model.dtype=bfloat16")
  return f"{', '.join(ways[:-1])} or {ways[-1]} would need less."


def _sums(memory: Memory) -> str:
  return ", ".join(f"{k} {_size(v)}" for k, v in memory.parts().items())


def _size(count: int | None) -> str:
  """Bytes in decimal units, as sizes of disks and GPUs are given."""
  if count is None:
    return "an unknown size"
  for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
    if count >= unit:
      return f"{count / unit:,.1f} {name}"
  return f"{count} bytes"


def table(memory: Memory, images: int) -> list[str]:
  """Returns a line for each part of a device's memory, and the host's cache.

  Args:
    memory: of one device.
    images: bytes of decoded images in the host's cache; 0 = no cache.
  """
  rows = {**memory.parts(), "all": memory.total}
  lines = [f"memory      of each device, which has {_size(memory.limit)}"]
  lines += [f"  {name:<14}{_size(count):>14}" for name, count in rows.items()]
  if images:
    lines.append(
      f"  {'host':<14}{_size(images):>14} of images, mapped from the disk"
    )
  return lines
