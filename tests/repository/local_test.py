"""launch/local.py starts processes, and restarts a job after some codes."""

import pathlib
import signal
import subprocess
import time

import pytest

from tests.support import jobs, programs


def arguments(folder, exits, *own, flags=("--config=x",)):
  """Returns arguments of `subprocess` for two processes that end so."""
  own = ["--module=tests.support.exit_codes", "--grace=1", *own]
  environment = {"EXITS": exits, "EXITS_FOLDER": str(folder)}
  return jobs.launch(folder, own, flags, **environment)


def starts(folder):
  return len((folder / "starts-0").read_bytes())


@pytest.mark.parametrize(
  "exits, code, count",
  [
    ("0,0", 0, 1),
    ("75,75 0,0", 0, 2),
    ("76,k 74,134 0,0", 0, 3),
    ("2,2", 2, 1),
    ("76,2", 2, 1),
    ("134,2", 2, 1),
    ("134,134 75,134 76,134", 134, 3),
    ("3,3", 3, 1),
    ("1,76", 1, 1),
    ("76,k 76,k 76,k", 137, 3),
    # A process that hangs is killed after the other has ended.
    ("76,f 0,0", 0, 2),
  ],
)
def test_exit_codes_decide_about_a_restart(exits, code, count, tmp_path):
  output = jobs.finish(arguments(tmp_path, exits, "--restarts=2"), code)
  assert starts(tmp_path) == count
  assert output.count("starting it again") == count - 1


def test_flags_arrive_unchanged(tmp_path):
  flags = ("--config=a b.py", "--x='q\"$HOME", "--", "--y=*")
  output = jobs.finish(arguments(tmp_path, "0,0", flags=flags))
  for index in (0, 1):
    words = (tmp_path / f"words-{index}").read_text().splitlines()
    assert words[:4] == list(flags)
    assert words[4].startswith("--coordinator=127.0.0.1:")
    assert words[5:] == ["--num_processes=2", f"--process_id={index}"]
  log = (tmp_path / "logs" / "process-1.log").read_text()
  assert "start 0 of process 1" in log and "device_count=1" in log
  assert "start 0 of process 0" in output
  assert "start 0 of process 1" not in output


def test_dry_run_prints_the_commands(tmp_path):
  own = "--dry_run", "--devices_per_process=3"
  call = arguments(tmp_path, "", *own, flags=["--config=a b.py"])
  first, second = jobs.finish(call).splitlines()
  assert "device_count=3" in first and "JAX_PLATFORMS=cpu" in first
  assert "-m tests.support.exit_codes '--config=a b.py' --coordinator=" in first
  assert first.endswith("--num_processes=2 --process_id=0")
  assert second.endswith("--process_id=1")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "words, message",
  [
    (["--processes=2"], "nothing to run"),
    (["--procesess=2", "--", "--config=x"], "unrecognized arguments"),
    (["--processes=0", "--", "--config=x"], "must be 1 or more"),
    (["--gpus", "--", "--config=x"], "nvidia-smi"),
  ],
)
def test_wrong_flags_are_refused(words, message):
  ended = programs.python("launch/local.py", *words, code=2, PATH="/nowhere")
  assert message in ended.stderr


def test_forwarded_signal_is_not_followed_by_a_restart(tmp_path):
  with subprocess.Popen(**arguments(tmp_path, "s,s 0,0")) as job:
    while not all((tmp_path / f"waits-{i}").exists() for i in (0, 1)):
      time.sleep(0.05)
    job.send_signal(signal.SIGINT)
    assert job.wait(30) == 75
  assert starts(tmp_path) == 1


def test_killed_launcher_leaves_no_process(tmp_path):
  with subprocess.Popen(**arguments(tmp_path, "f,f")) as job:
    while not (tmp_path / "words-1").exists():
      time.sleep(0.05)
    job.kill()
  time.sleep(0.5)
  mine = f"EXITS_FOLDER={tmp_path}".encode()
  for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
      assert mine not in path.read_bytes(), path
    except OSError:
      pass  # Another user's, or already ended.
