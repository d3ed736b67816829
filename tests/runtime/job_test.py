"""Start and end of a job: flags, clusters, and real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest

from tests.support import member
from tests.support.programs import ROOT, free_port
from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.runtime import job, watchdog

CLUSTERS = ("SLURM", "OMPI", "KUBERNETES", "TPU", "JOB_")


@pytest.fixture
def initialize(monkeypatch):
  """Returns the list of arguments that JAX is started with, in no cluster."""
  for name in list(os.environ):
    if name.startswith(CLUSTERS):
      monkeypatch.delenv(name)
  calls = []

  def record(**arguments):
    calls.append(arguments)
    if "coordinator_address" not in arguments:
      raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(jax.distributed, "initialize", record)
  yield calls
  watchdog.stop()


def two():
  """Returns the flags of a job of two processes."""
  coordinator = f"127.0.0.1:{free_port()}"
  return {"coordinator": coordinator, "num_processes": 2}


def run(task, *environments, devices=(1, 1), **options):
  """Runs a task of `member` in a process for each environment.

  Returns:
    For each process its exit code, standard output and standard error.
  """
  started = []
  for index, environment in enumerate(environments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(CLUSTERS)}
    flag = f"--xla_force_host_platform_device_count={devices[index]}"
    place = {"process_id": index} if "num_processes" in options else {}
    words = [task, json.dumps(options | place)]
    process = subprocess.Popen(
      [sys.executable, "-m", "tests.support.member", *words],
      cwd=ROOT,
      env=clean | {"XLA_FLAGS": flag} | environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    started.append(process)
  outputs = [process.communicate(timeout=100) for process in started]
  return [(p.returncode, *o) for p, o in zip(started, outputs, strict=True)]


def test_one_process_needs_no_flags_and_no_cluster(initialize):
  job.start(config_lib.default())
  assert "num_processes" not in initialize[0]
  job.check_alone("sample")
  job.finish()


def test_flags_name_the_place(initialize):
  config = config_lib.default()
  job.start(config, coordinator="h:8476", num_processes=4, process_id=3)
  (arguments,) = initialize
  times = dict(initialization_timeout=300, heartbeat_timeout_seconds=30)
  place = dict(coordinator_address="h:8476", num_processes=4, process_id=3)
  assert arguments == times | place | {"cluster_detection_method": "deactivate"}


def test_lone_pod_is_no_cluster(initialize, monkeypatch):
  monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
  job.start(config_lib.default())
  assert not initialize
  monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
  job.start(config_lib.default())
  assert len(initialize) == 1


@pytest.mark.parametrize(
  "flags, words",
  [
    (("h:1", 2, None), "--process_id must be given too"),
    ((None, 2, 0), "--coordinator must be given too"),
    (("h:1", None, None), "--num_processes, --process_id must be given too"),
    *((("h:1", 2, index), "from 0 to 1") for index in (2, -1)),
    *(
      ((address, 2, 0), "must be HOST:PORT")
      for address in ("", "host", ":1", "host:x", "host:70000")
    ),
  ],
)
def test_wrong_flags_are_refused(initialize, flags, words):
  names = ("coordinator", "num_processes", "process_id")
  with pytest.raises(ConfigError, match=words):
    job.start(config_lib.default(), **dict(zip(names, flags, strict=True)))
  assert not initialize


def test_several_processes_refuse_other_modes(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(ConfigError, match="--mode=sample runs in one process"):
    job.check_alone("sample")


def test_processes_of_slurm_exchange_values():
  slurm = {
    # JAX computes the port from it.
    "SLURM_JOB_ID": str(free_port()),
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_LOCALID": "0",
  }
  results = run("exchange", *({**slurm, "SLURM_PROCID": i} for i in "01"))
  assert [code for code, _, _ in results] == [0, 0], results
  first, second = (json.loads(out.splitlines()[-1]) for _, out, _ in results)
  assert (first.pop("index"), second.pop("index")) == (0, 1)
  assert (first.pop("first"), second.pop("first")) == (0, 1)
  assert first == second
  assert first["here"] == 2 and first["processes"] == [0, 1]
  assert first["gathered"] == [["", 0], ["é", 1]] and first["lead"] == 7
  for name, array in member.arrays().items():
    assert first["bits"].pop(name) == array.tobytes().hex()
    assert first["types"].pop(name) == [str(array.dtype), list(array.shape)]
  assert first["bits"] == first["types"] == {}
  assert first["shared"].startswith("ConfigError: No data here. (in process 1")
  assert first["agreed"] == ""
  lines = first["differs"].splitlines()[1:]
  assert [line.split(" (")[0] for line in lines] == [
    *("  0 is None in process 1", "  1 is 1 in process 1"),
    "  seed is 1 in process 1",
  ]
  assert ", 0 in process 0 (" in lines[2]
  assert first["places"].endswith("different places: ['place 0', 'place 1']")
  assert f"Process 0 ({socket.gethostname()}, pid " in results[0][2]
  assert "[1] Process 1 (" in results[1][2]


@pytest.mark.slow
def test_error_of_one_process_of_open_mpi_ends_both():
  mpi = {
    "OMPI_MCA_orte_hnp_uri": f"1531576320.0;tcp://127.0.0.1:{free_port()}",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
  }
  results = run("leave", *({**mpi, "OMPI_COMM_WORLD_RANK": i} for i in "01"))
  (code, _, _), (own, _, words) = results
  assert own == 2 and "[1] Only here." in words
  # A broken collective, or JAX's runtime, whichever comes first.
  assert code in (watchdog.EXIT_LOST, -6)


def test_processes_with_other_devices_are_refused():
  results = run("exchange", {}, {}, devices=(1, 2), **two())
  for code, _, words in results:
    assert code == 2
    assert "local devices is 2 x cpu in process 1, 1 x cpu in" in words


def test_missing_process_ends_the_others():
  begin = time.monotonic()
  ((code, _, words),) = run("exchange", {}, seconds=2, **two())
  assert code == -6 and "DEADLINE_EXCEEDED" in words
  assert "Connecting 2 processes at 127.0.0.1" in words
  assert time.monotonic() - begin < 60


@pytest.mark.slow
def test_port_in_use_is_a_lost_job():
  with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]
    flags = two() | {"coordinator": f"127.0.0.1:{port}"}
    ((code, _, words),) = run("exchange", {}, **flags)
  # JAX 0.10.2 sometimes crashes before it raises. Launchers restart both.
  assert code in (watchdog.EXIT_LOST, -signal.SIGSEGV)
  assert code < 0 or f"127.0.0.1:{port} cannot be used: " in words
