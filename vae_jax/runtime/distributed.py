"""Exchanges values among the processes of a job.

All functions are collectives: every process must call them, in the same order.
They return at once in a job of one process.
"""

import functools
import json
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import logging
from jax import lax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import devices, watchdog

T = TypeVar("T")


class Process(NamedTuple):
  """Place of one process."""

  index: int  # in the job, from 0
  host: str
  pid: int

  def __str__(self) -> str:
    return f"process {self.index} ({self.host}, pid {self.pid})"


def connect() -> None:
  """Connects the devices of all processes; all must call it, at the start.

  On CPUs the first collective of some devices waits 30 s for the others (Gloo's
  limit), a later one 30 min. Were it that of the first training step, a process
  that compiles 30 s longer than another one would end the job.
  """
  ones = devices.replicate(np.int32(1))
  jax.block_until_ready(devices.pmap(lambda v: lax.psum(v, devices.AXIS))(ones))


@functools.cache
def processes() -> tuple[Process, ...]:
  """Returns all processes of the job, by index.

  The first call is a collective, which `start` makes.
  """
  here = (socket.gethostname(), os.getpid())
  places = gather("the processes", here)
  return tuple(Process(i, *place) for i, place in enumerate(places))


def processes_here() -> int:
  """Returns the number of processes of this job on this machine."""
  host = processes()[jax.process_index()].host
  return sum(process.host == host for process in processes())


def gather(what: str, value: Any) -> list[Any]:
  """Returns the JSON values of all processes, by index; all must call it.

  Raises:
    RuntimeError: the processes are at different places, `what`, in the program.
  """
  if jax.process_count() == 1:
    return [value]
  # Another process may take long; if it hangs, its own watchdog ends it.
  with watchdog.paused(f"waiting for the other processes at {what}"):
    content = np.frombuffer(json.dumps([what, value]).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(content)))
    padded = np.pad(content, (0, sizes.max() - len(content)))
    rows = multihost_utils.process_allgather(padded)
  pairs = zip(rows, sizes, strict=True)
  entries = [json.loads(row[:size].tobytes()) for row, size in pairs]
  places = [place for place, _ in entries]
  if len(set(places)) > 1:
    raise RuntimeError(f"the processes are at different places: {places}")
  return [value for _, value in entries]


def from_lead(what: str, value: T) -> T:
  """Returns the value of process 0, anything that JSON holds."""
  return gather(what, value)[0]


def barrier(what: str) -> None:
  """Waits until all processes have come to `what`."""
  gather(what, None)


def broadcast(tree: T) -> T:
  """Returns the host arrays of process 0, bit for bit, in all processes; their
  shapes and types must be equal."""
  if jax.process_count() == 1:
    return tree

  # As integers, because JAX adds zeros, which would turn -0.0 into 0.0.
  def words(array: np.ndarray) -> np.ndarray:
    content = np.ravel(array).view(np.uint8)
    return np.pad(content, (0, -len(content) % 4)).view(np.uint32)

  def array(words: np.ndarray, like: np.ndarray) -> np.ndarray:
    content = np.array(words).view(np.uint8)[: like.nbytes]
    return content.view(like.dtype).reshape(like.shape)

  with watchdog.paused("waiting for arrays of process 0"):
    sent = multihost_utils.broadcast_one_to_all(jax.tree.map(words, tree))
  return jax.tree.map(array, sent, tree)


def agree(what: str, facts: dict[str, Any]) -> None:
  """Raises the same ConfigError in all processes if their facts, JSON values by
  name, differ at `what`."""
  if jax.process_count() == 1:
    return
  names = [str(process) for process in processes()]
  raise_if_different(differences(gather(what, facts), names))


def raise_if_different(lines: list[str]) -> None:
  """Raises a ConfigError that lists the lines of `differences`, if any."""
  if lines:
    raise ConfigError("The processes differ:\n  " + "\n  ".join(lines))


def differences(facts: list[dict[str, Any]], names: list[str]) -> list[str]:
  """Returns a line for each fact that differs from that of process 0, from the
  facts and the names of all processes."""
  return [
    f"{fact} is {theirs.get(fact)} in {name}, {facts[0].get(fact)} in "
    f"{names[0]}"
    for theirs, name in zip(facts, names, strict=True)
    for fact in sorted(facts[0].keys() | theirs.keys())
    if facts[0].get(fact) != theirs.get(fact)
  ]


def data_facts(name: str, source: Any) -> dict[str, Any]:
  """Returns the fingerprint of a source as facts for `agree`."""
  return {f"{name}' {key}": value for key, value in source.fingerprint.items()}


def config_facts(config: ConfigDict) -> dict[str, Any]:
  """Returns all settings but those of one machine as facts for `agree`."""
  return {
    f"config.{path}": value
    for path, value in config_lib.flatten(config).items()
    if path not in config_lib.MACHINE_FIELDS
  }


def lead_first(work: Callable[[], T], what: str) -> T:
  """Returns work(), which process 0 does before all others do it.

  On a shared disk the others find the files of process 0; on their own disks
  they work at the same time. `what` describes the work for the log.

  Raises:
    ConfigError: in all processes, if `work` raises it in one of them.
  """
  if jax.process_count() == 1:
    return work()
  results = []
  for is_turn_of_lead in (True, False):
    reason = ""
    if devices.is_lead() == is_turn_of_lead:
      try:
        results.append(work())
      except ConfigError as error:
        reason = str(error)
    elif is_turn_of_lead:
      logging.info("Waiting for process 0: %s.", what)
    reasons = gather(what, reason)
    for process, text in zip(processes(), reasons, strict=True):
      if text:
        raise ConfigError(f"{text} (in {process})")
  return results[0]
