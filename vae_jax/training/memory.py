"""Device memory of a training run, against the limit of the device.

State and data are counted from their shapes; activations are the compiler's
figure for the train step. Validation between dispatches is not counted.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.runtime import devices, distributed
from vae_jax.training.state import TrainState

_CGROUPS = pathlib.Path("/sys/fs/cgroup")


def required(
  state: TrainState, data: Any, *, dispatches: int, compiled: Any = None
) -> int:
  """Returns the bytes that each device holds while it trains.

  State and data have a leading axis of local devices; the data of so many
  dispatches is held at once. Without the compiled step no activations count.
  """
  held = _bytes(state) + dispatches * _bytes(data)
  stats = compiled.memory_analysis() if compiled is not None else None
  if stats is None:  # Not every backend has one.
    return held
  # The state is donated: its next value takes the place of the last one.
  fresh = stats.output_size_in_bytes - stats.alias_size_in_bytes
  program = stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
  return held + program + max(0, fresh)


def _bytes(tree: Any) -> int:
  """Returns the bytes on one device of arrays with a leading device axis."""
  return sum(
    math.prod(v.shape[1:]) * v.dtype.itemsize for v in jax.tree.leaves(tree)
  )


def limit() -> int | None:
  """Returns the bytes of a device, of a CPU its share of this machine; None
  for an accelerator without memory statistics."""
  here = devices.positions()
  device = devices.devices()[here[0]]
  if device.platform == "cpu":
    return host_limit() // (len(here) * distributed.processes_here())
  return (device.memory_stats() or {}).get("bytes_limit")


def host_limit(
  cgroups: pathlib.Path = _CGROUPS,
  membership: pathlib.Path = pathlib.Path("/proc/self/cgroup"),
) -> int:
  """Returns the bytes this process may use: the machine's, or its cgroup's,
  which `membership` names in lines `number:controllers:path`."""
  limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
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
        limits.append(int((root / folder / name).read_text()))
  return min(limits)


def check(config: ConfigDict, needed: int) -> None:
  """Raises a ConfigError with advice if a device needs more than its limit."""
  available = limit()
  if available is not None and needed > available:
    raise ConfigError(
      f"This run does not fit: each device would hold {size(needed)} and has "
      f"{size(available)}; {_advice(config)}"
    )


def check_sizes(config: ConfigDict, params: Any) -> None:
  """Compares what a run holds at least with the limits, before any of it is.

  Args:
    config: the resolved config.
    params: shapes of the weights.

  Raises:
    ConfigError: the images of a batch do not fit on this machine, or the
      weights and their gradient not on a device.
  """
  image = math.prod(config.data.image_shape)
  for field in ("train", "eval"):
    batch = config[field].batch_size
    # Once on the host, and once on its devices or on the way to them.
    held = 2 * batch * image // jax.process_count()
    if held > host_limit():
      raise ConfigError(
        f"config.{field}.batch_size is {batch:,}: its images take {size(held)} "
        f"in each process, and this machine has {size(host_limit())}."
      )
  parts = {
    name: 2 * sum(math.prod(v.shape) * v.dtype.itemsize for v in leaves)
    for name, leaves in (
      (name, jax.tree.leaves(part)) for name, part in params.items()
    )
  }
  available = limit()
  if available is not None and sum(parts.values()) > available:
    largest = max(parts, key=parts.get)
    raise ConfigError(
      f"This run does not fit: the weights and their gradient are "
      f"{size(sum(parts.values()))}, of which {largest} has "
      f"{size(parts[largest])}, and each device has {size(available)}; see "
      f"config.model.latent_dim, which is {config.model.latent_dim:,}, and the "
      f"sizes of {largest}."
    )


@contextlib.contextmanager
def explain_oom(
  config: ConfigDict, needed: int | None = None
) -> Iterator[None]:
  """Turns JAX's RESOURCE_EXHAUSTED into a ConfigError with advice; `needed` are
  the bytes that each device holds already, if known."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    first, _, _ = str(error).partition("\n")
    if "RESOURCE_EXHAUSTED" not in first:
      raise
    known = f"with {size(needed)} for state and data " if needed else ""
    raise ConfigError(
      f"This run does not fit: each device has {size(limit())}, which {known}"
      f"is too little ({first[:200].rstrip('.')}); {_advice(config)}"
    ) from error


def _advice(config: ConfigDict) -> str:
  batch, count = config.train.batch_size, config.train.accumulate
  settings = []
  if not config.model.remat:
    settings.append("config.model.remat=True")
  if batch > count:
    settings.append(f"config.train.accumulate={2 * count}")
  settings.append(f"a config.train.batch_size below {batch:,}")
  if config.model.dtype == "float32":
    settings.append("config.model.dtype=bfloat16")
  return f"{', '.join(settings[:-1])} or {settings[-1]} would need less."


def size(count: int | None) -> str:
  """Returns bytes in decimal units, the units of disks and GPUs."""
  if count is None:
    return "an unknown size"
  for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
    if count >= unit:
      return f"{count / unit:,.1f} {name}"
  return f"{count} bytes"
