"""Start and end of a process of a job of one or several processes.

JAX's distributed runtime connects the processes, and ends every process when
one of them is dead or frozen. A process that JAX ends has exit code 134
(SIGABRT).
"""

import logging as std_logging
import os
import platform
import re
import sys
import threading
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.runtime import devices, distributed, watchdog

# Seconds that a process waits after an error for the others to end, too.
_LAST_SECONDS = 5.0
# Seconds in which the watchdogs of all processes report a run that hangs.
_REPORT_DELAY = 30.0
# Seconds that it waits for JAX's report after a collective broke.
_REPORT_SECONDS = 120.0
# Statuses of a collective that broke. Others (RESOURCE_EXHAUSTED, ...) would
# come back in a restarted job.
_BROKEN = re.compile(
  "(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL"
  "|UNAVAILABLE|UNKNOWN): "
)


class Lost(Exception):
  """JAX's runtime could not connect the processes of the job."""

  exit_code = watchdog.EXIT_LOST


def start(
  config: ConfigDict,
  *,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  facts: dict[str, Any] | None = None,
) -> None:
  """Starts JAX's runtime and the watchdog; must be the first call of JAX.

  The coordinator is HOST:PORT of process 0. Without it and the numbers JAX
  detects them (TPU pods, SLURM, Open MPI), or there is one process. `facts` are
  JSON values, by name, that must be equal in all processes.

  Raises:
    ConfigError: a flag is missing or wrong, or the processes differ.
    Lost: process 0 cannot listen on its port.
  """
  place = _place(coordinator, num_processes, process_id)
  if place or not _is_lone_pod():
    _connect(config, place)
  if not jax.distributed.is_initialized() or jax.process_count() == 1:
    watchdog.start(config.watch.stall_seconds)
    return
  index = jax.process_index()
  if index:
    # Launchers may merge the output of all processes.
    logging.get_absl_handler().setFormatter(
      std_logging.Formatter(f"[{index}] %(message)s")
    )
  # JAX ends the others soon after the end of the first.
  watchdog.start(
    config.watch.stall_seconds, f"Process {index}", delay=_REPORT_DELAY
  )
  _check_devices()
  distributed.connect()
  distributed.agree(
    "the start",
    {
      "--num_processes": num_processes,
      "python": platform.python_version(),
      **(facts or {}),
    },
  )
  own = str(distributed.processes()[index]).capitalize()
  logging.info("%s of %s.", own, jax.process_count())


def _place(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> dict[str, Any]:
  """Returns the flags as arguments of JAX, {} if none of them is set."""
  flags = {"--coordinator": coordinator, "--num_processes": num_processes}
  flags["--process_id"] = process_id
  missing = [name for name, value in flags.items() if value is None]
  if len(missing) == 3:
    return {}
  if missing:
    raise ConfigError(
      f"{', '.join(missing)} must be given too: --coordinator, --num_processes "
      "and --process_id belong together."
    )
  if not 0 <= process_id < num_processes:
    raise ConfigError(
      f"--process_id is {process_id}; it must be from 0 to "
      f"{num_processes - 1}, one less than --num_processes."
    )
  port = re.fullmatch(r".+:(\d{1,5})", coordinator)
  if not port or not 0 < int(port[1]) < 1 << 16:
    raise ConfigError(
      f"--coordinator is {coordinator!r}; it must be HOST:PORT of process 0, "
      "such as 10.0.0.1:8476."
    )
  return {
    "coordinator_address": coordinator,
    "num_processes": num_processes,
    "process_id": process_id,
    "cluster_detection_method": "deactivate",
  }


def _is_lone_pod() -> bool:
  """Returns whether this is a Kubernetes pod of no indexed job."""
  indexed = {"JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES"} & os.environ.keys()
  return "KUBERNETES_SERVICE_HOST" in os.environ and not indexed


def _connect(config: ConfigDict, place: dict[str, Any]) -> None:
  """Calls `jax.distributed.initialize`, unless there is no cluster."""
  if place:
    logging.info(
      "Connecting %d processes at %s (for at most %g s).",
      place["num_processes"],
      place["coordinator_address"],
      config.watch.start_seconds,
    )
  # The stop signal is summed over the devices instead; see `training.step`.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      **place,
      initialization_timeout=max(1, int(config.watch.start_seconds)),
      heartbeat_timeout_seconds=max(1, int(config.watch.heartbeat_seconds)),
    )
  except ValueError as error:
    # JAX has no public function that only detects a cluster.
    if "coordinator_address should be defined" not in str(error):
      raise ConfigError(f"JAX cannot find its place: {error}") from error
  except jax.errors.JaxRuntimeError as error:
    raise Lost(
      f"{place.get('coordinator_address', 'The job')} cannot be used: {error}"
    ) from error


def _check_devices() -> None:
  """Raises a ConfigError if the processes have different devices."""
  kinds: dict[int, list[str]] = {}
  for device in devices.devices():
    kinds.setdefault(device.process_index, []).append(device.device_kind)
  # Collectives need equal numbers of devices, so that names are indices here.
  facts = [
    {"local devices": f"{len(own)} x {own[-1]}"} for own in kinds.values()
  ]
  names = [f"process {i}" for i in kinds]
  distributed.raise_if_different(distributed.differences(facts, names))


def check_alone(mode: str) -> None:
  """Raises a ConfigError if the job of a mode has several processes."""
  if jax.process_count() > 1:
    raise ConfigError(
      f"--mode={mode} runs in one process, not in {jax.process_count()}; start "
      "it once, without --coordinator, --num_processes and --process_id. Modes "
      "of several processes are train, evaluate and benchmark."
    )


def finish() -> None:
  """Waits for the other processes at the end of the program."""
  if jax.distributed.is_initialized():
    # Not left to JAX's own barrier, because that one has a time limit.
    distributed.barrier("the end")
    jax.distributed.shutdown()
  watchdog.stop()


def leave(error: BaseException, code: int | None) -> None:
  """Logs an error, and ends this process of a job of several with a code; None:
  1, with a stack trace.

  Returns if the job has one process. If all processes raise the error, each
  ends with its code; if one alone does, JAX ends the others.
  """
  watchdog.stop()
  if not isinstance(error, Lost) and (
    not jax.distributed.is_initialized() or jax.process_count() == 1
  ):
    return
  # JAX raises a ValueError where it runs a program synchronously.
  is_lost = isinstance(error, jax.errors.JaxRuntimeError | ValueError) and bool(
    _BROKEN.match(str(error))
  )
  if is_lost:
    # A collective broke. JAX reports within a heartbeat which process is dead,
    # and then ends this one.
    code = watchdog.EXIT_LOST
    logging.error("%s: %s", type(error).__name__, error)
  elif code is None:
    logging.error("", exc_info=error)
  else:
    logging.error("%s", str(error) or type(error).__name__)
  sys.stdout.flush()
  sys.stderr.flush()
  # The shutdown waits for the other processes. Should they not come, JAX would
  # end this process with another code than its own. Without a service JAX's
  # own end crashes.
  thread = threading.Thread(target=jax.distributed.shutdown, daemon=True)
  thread.start()
  if isinstance(error, Exception):
    thread.join(_REPORT_SECONDS if is_lost else _LAST_SECONDS)
  os._exit(code or 1)
