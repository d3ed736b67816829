"""Start-up of a job of one or many processes, and what they do together.

Whether a run has one process or many is decided here alone: by the three flags
--coordinator, --num_processes and --process_id, or by what JAX finds in the
environment (TPU pods, SLURM, Open MPI, Kubernetes). All functions work, and
cost nothing, in a single process.
"""

import contextlib
import json
import logging as std_logging
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import devices, preemption, rendezvous
from vae_jax.runtime import transport as peers_lib
from vae_jax.runtime import watchdog as watch_lib

T = TypeVar("T")

# JAX's own heartbeat ends a process from C++ without naming anybody, so that
# the watch must come first.
_JAX_HEARTBEAT = 10.0  # times the watch's
# Those whose collective broke hear of it in no time; so long they wait for it.
_JAX_ERROR_SECONDS = 3.0
_SHUTDOWN_SECONDS = 60
# Of JAX's errors, those that would come back in a job that is started again.
_WOULD_COME_BACK = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")
_peers: peers_lib.Peers | None = None
_by_itself = False


class Disagreement(ConfigError):
  """The processes do not hold the same; all of them know it."""

  together = True


def start(
  config: ConfigDict,
  *,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  facts: dict[str, Any] | None = None,
) -> None:
  """Finds the other processes and starts JAX's runtime; the first JAX call.

  Args:
    config: of the run, of which only `watch` is read here.
    coordinator: HOST:PORT of process 0; None: as JAX finds it.
    num_processes: of the job; None: as JAX finds it.
    process_id: of this one, from 0 on; None: as JAX finds it.
    facts: what must be equal in all processes, as JSON holds it.

  Raises:
    ConfigError: the flags do not belong together, or the processes hold
      different facts; the sentence says which.
    peers.Lost: a process did not come in time; the sentence says which.
  """
  global _peers
  address, count, index, local = _place(coordinator, num_processes, process_id)
  seconds = config.watch.start_seconds
  if count > 1:
    _peers = rendezvous.call(address, index, count, seconds)
  watch_lib.start(
    watch_lib.Watch(
      _peers,
      heartbeat_seconds=config.watch.heartbeat_seconds,
      stall_seconds=config.watch.stall_seconds,
    )
  )
  if count == 1:
    return
  if index:
    # Where logs run together one must see whose a line is.
    logging.get_absl_handler().setFormatter(
      std_logging.Formatter(f"[{index}] %(message)s")
    )
  agree("the start", {"python": platform.python_version(), **(facts or {})})
  # The stop signal is summed over the devices instead; see `train`.
  jax.config.update("jax_enable_preemption_service", False)
  jax.distributed.initialize(
    address,
    count,
    index,
    local,
    # All that it would look for has been found.
    cluster_detection_method="deactivate",
    initialization_timeout=max(1, int(seconds)),
    shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    heartbeat_timeout_seconds=int(
      _JAX_HEARTBEAT * config.watch.heartbeat_seconds
    ),
  )
  agree("the devices", {"local devices": devices.describe_local_devices()})
  logging.info("Process %d of %d: %s.", index, count, ", ".join(_peers.names))


def _place(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[str, int, int, Any]:
  """Returns address of process 0, processes, this one, its local devices."""
  given = {
    "--coordinator": coordinator,
    "--num_processes": num_processes,
    "--process_id": process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  if missing and len(missing) < 3:
    raise ConfigError(
      f"{', '.join(missing)} must be given too: --coordinator, --num_processes "
      "and --process_id belong together."
    )
  if not missing:
    if not 0 <= process_id < num_processes:
      raise ConfigError(
        f"--process_id is {process_id}; it must be from 0 to "
        f"{num_processes - 1}, one less than --num_processes."
      )
    return coordinator, num_processes, process_id, None
  found = _detected()
  return found if found[1] else ("", 1, 0, None)


def _detected() -> tuple[Any, Any, Any, Any]:
  """Returns what JAX finds out about the cluster, Nones if there is none."""
  if (
    "KUBERNETES_SERVICE_HOST" in os.environ
    and "JOB_COMPLETION_INDEX" not in os.environ
    and "TPU_WORKER_HOSTNAMES" not in os.environ
  ):
    return None, None, None, None  # A pod, but of no job of several.
  # The place must be known before JAX starts, to call the roll; JAX offers
  # no public way to ask for it.
  from jax._src import clusters

  detect = clusters.ClusterEnv.auto_detect_unset_distributed_params
  return detect(None, None, None, None, None, 300)


def _team() -> peers_lib.Peers | None:
  """Returns the connections, None where there is nobody to wait for."""
  return None if _by_itself else _peers


def agree(what: str, facts: dict[str, Any]) -> None:
  """Stops all processes, with the difference, if facts are not the same.

  Args:
    what: where in the program this is.
    facts: {name: value}, as JSON holds it.

  Raises:
    Disagreement: in all processes, with the same sentence.
  """
  team = _team()
  if team is None:
    return
  given = team.gather(what, json.loads(json.dumps(facts)))
  lines = differences(given, team.names)
  if lines:
    raise Disagreement(
      "The processes must hold the same, but do not:\n  " + "\n  ".join(lines)
    )


def differences(given: list[dict[str, Any]], names: list[str]) -> list[str]:
  """Returns a line for each fact that is another than in process 0.

  Args:
    given: the facts of each process.
    names: of the processes, in words.
  """
  return [
    f"{fact} is {theirs.get(fact)} in {name}, {given[0].get(fact)} in "
    f"{names[0]}"
    for theirs, name in zip(given, names, strict=True)
    for fact in sorted(given[0].keys() | theirs.keys())
    if given[0].get(fact) != theirs.get(fact)
  ]


def data_facts(name: str, source: Any) -> dict[str, Any]:
  """Returns all that the content of a source depends on, for `agree`."""
  return {f"{name}' {key}": value for key, value in source.fingerprint.items()}


def config_facts(config: ConfigDict) -> dict[str, Any]:
  """Returns all settings but those of one machine, as `agree` takes them."""
  return {
    f"config.{path}": value
    for path, value in config_lib.flatten(config).items()
    if path not in config_lib.MACHINE_FIELDS
  }


def names() -> list[str]:
  """Returns all processes in words, as "process 1 (host-b, pid 77)"."""
  if _peers is not None:
    return list(_peers.names)
  return [f"process 0 ({socket.gethostname()}, pid {os.getpid()})"]


def processes_here() -> int:
  """Returns the number of processes of this job on this machine."""
  if _peers is None:
    return 1
  hosts = [name.partition("(")[2].partition(", ")[0] for name in _peers.names]
  return hosts.count(hosts[_peers.index])


def from_lead(what: str, value: T) -> T:
  """Returns what process 0 gives: a small value, as JSON holds it."""
  team = _team()
  return value if team is None else team.gather(what, value)[0]


def barrier(what: str) -> None:
  """Waits for all processes; `what` says where in the program this is."""
  team = _team()
  if team is not None:
    watch_lib.progress(watch_lib.WAITING)
    team.gather(what)


def lead_first(work: Callable[[], T], what: str) -> T:
  """Returns work(), done by process 0 before the others begin.

  What it leaves on a shared disk the others find there; on disks of their own
  they all do it themselves, at the same time.

  Args:
    work: to be done.
    what: in words, for those who wait.
  """
  team = _team()
  if team is None:
    return work()
  if team.index == 0:
    result = work()
    barrier(what)
    return result
  logging.info("Waiting for process 0: %s.", what)
  barrier(what)
  return work()


@contextlib.contextmanager
def alone() -> Iterator[bool]:
  """Process 0 works with its own devices; the others wait until it is done.

  Yields whether this is the one that works.
  """
  global _by_itself
  _by_itself = True
  try:
    with devices.own_devices(), contextlib.ExitStack() as stack:
      if not devices.is_lead():
        # The one that works saves first, and ends those that wait.
        stack.enter_context(preemption.listening())
      yield devices.is_lead()
  except BaseException as error:
    error.together = False
    raise
  finally:
    _by_itself = False
  barrier("what one process does alone")


def finish() -> None:
  """Waits for the others at the end of the program."""
  watch = watch_lib.current()
  if watch is not None:
    watch.finish()
    watch_lib.start(None)
    if _peers is not None:
      _peers.close()


def part(error: BaseException, code: int | None) -> None:
  """Parts from the other processes after an error.

  Returns where this process may end as any program does; in a job of several
  it ends here unless all of them come here for the same reason.

  Args:
    error: what ends this process.
    code: its exit code; None: a defect, with a stack trace and code 1.
  """
  watch = watch_lib.current()
  if _peers is None or watch is None:
    return
  if getattr(error, "together", False):
    finish()
    return
  if isinstance(error, jax.errors.JaxRuntimeError):
    # Most likely a collective that broke since somebody is gone, of whom the
    # watch is about to hear; if not, a device or a network that failed.
    time.sleep(_JAX_ERROR_SECONDS)
    if not str(error).startswith(_WOULD_COME_BACK):
      code = peers_lib.EXIT_LOST
  sentence = str(error)
  if code is None or isinstance(error, jax.errors.JaxRuntimeError):
    sentence = f"{type(error).__name__}: {sentence}"
    logging.error("", exc_info=error)
  else:
    logging.error("%s", sentence)
  watch.leave(sentence, code or 1)
  # JAX's own way out waits for processes that will not come.
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code or 1)
