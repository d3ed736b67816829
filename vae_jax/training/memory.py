"""Device memory of a training run, against the limit of the device.

State and data are counted from their shapes; activations are the compiler's
figures for the train step and the evaluation step.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import logging
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
  return held(state) + dispatches * held(data) + program(compiled)


def program(compiled: Any) -> int:
  """Returns the bytes that each device holds to run a compiled program, besides
  its arguments."""
  stats = compiled.memory_analysis() if compiled is not None else None
  if stats is None:  # Not every backend has one.
    return 0
  # The state is donated: its next value takes the place of the last one.
  fresh = stats.output_size_in_bytes - stats.alias_size_in_bytes
  own = stats.temp_size_in_bytes + stats.generated_code_size_in_bytes
  return own + max(0, fresh)


def held(tree: Any) -> int:
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


def check(config: ConfigDict, needed: int, *, evaluating: bool = False) -> None:
  """Raises a ConfigError with advice if a device needs more than its limit, in
  training or in evaluation."""
  available = limit()
  if available is not None and needed > available:
    when = " in a validation" if evaluating else ""
    raise ConfigError(
      f"This run does not fit: each device would hold {size(needed)}{when} and "
      f"has {size(available)}; {_advice(config, evaluating)}"
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


def is_oom(error: Exception) -> bool:
  """Returns whether an error says that a device has too little memory."""
  first, _, _ = str(error).partition("\n")
  runtime = isinstance(error, jax.errors.JaxRuntimeError)
  return runtime and "RESOURCE_EXHAUSTED" in first


def half(batch_size: int) -> int | None:
  """Returns about half of a batch over all devices, a multiple of their number;
  None if there is no smaller one."""
  smaller = devices.round_up(batch_size // 2)
  if not 0 < smaller < batch_size:
    return None
  logging.warning(
    "The devices have too little memory to evaluate %d images at a time "
    "(config.eval.batch_size): going on with %d, which changes no number.",
    batch_size,
    smaller,
  )
  return smaller


def halved(
  error: Exception, batch_size: int, independent: Callable[[], bool]
) -> int:
  """Returns about half of an evaluation's batch, after an error.

  A process whose devices are full cannot tell the others so, which wait for it
  within the program: a job of several processes ends.

  Args:
    error: of the evaluation.
    batch_size: images over all devices.
    independent: returns whether no number depends on the batch size.

  Raises:
    Exception: the error, if it is another one or the batch cannot be halved.
  """
  if not is_oom(error) or jax.process_count() > 1 or not independent():
    raise error
  smaller = half(batch_size)
  if smaller is None:
    raise error
  return smaller


@contextlib.contextmanager
def explain_oom(
  config: ConfigDict, needed: int | None = None, *, evaluating: bool = False
) -> Iterator[None]:
  """Turns JAX's RESOURCE_EXHAUSTED into a ConfigError with advice.

  Args:
    config: the config.
    needed: bytes that each device holds already, if known.
    evaluating: whether the block evaluates; else it trains.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if not is_oom(error):
      raise
    known = f"with {size(needed)} for state and data " if needed else ""
    why = str(error).partition("\n")[0][:200].rstrip(".")
    raise ConfigError(
      f"This run does not fit: each device has {size(limit())}, which {known}"
      f"is too little ({why}); {_advice(config, evaluating)}"
    ) from error


def _advice(config: ConfigDict, evaluating: bool = False) -> str:
  if evaluating:
    batch = config.eval.batch_size
    return f"a config.eval.batch_size below {batch:,} would need less."
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
