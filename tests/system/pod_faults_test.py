"""Faults of one process of several: who is named, and nothing is lost."""

import re

import pytest

from tests.support import jobs
from vae_jax.training import restore

KILL_AT_A_STEP = {"process": 1, "at": "step", "count": 4, "do": "KILL"}
UNHEALTHY = "unhealthy (stopped sending heartbeats)"


def test_killed_process_is_named_and_nothing_is_lost(pod, tmp_path, run):
  output, workdir = run(plan=[KILL_AT_A_STEP])
  assert len(jobs.faults(tmp_path)) == 1
  assert output.partition(UNHEALTHY)[2].split()[1] == "1", output
  assert "as they ended: 1 (137), 0 (134)." in output
  assert "ended with code 137; starting it again (1 of" in output
  jobs.assert_undisturbed(workdir, pod)


def test_signal_to_one_process_stops_all_at_one_step(pod, tmp_path, run):
  plan = [KILL_AT_A_STEP | {"do": "TERM", "count": 3}]
  output, workdir = run(plan=plan, restarts=0, code=75)
  step = restore.load_state(workdir).step
  assert 0 < step < 40
  assert f"Stopped at step {step} of 40 and saved it" in output
  assert f"Stopped at step {step} of 40" in jobs.log(tmp_path, 1)
  assert "as they ended: " in output and "1 (75)" in output
  # Resumed in one process, with as many devices.
  run(layout=(1, 4))
  jobs.assert_close(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_frozen_process_is_replaced(process, pod, tmp_path, run):
  plan = [KILL_AT_A_STEP | {"do": "STOP", "process": process}]
  output, workdir = run(plan=plan)
  words = jobs.log(tmp_path, 1 - process)
  assert UNHEALTHY in words or "DEADLINE_EXCEEDED" in words
  order = f"as they ended: {1 - process} (134), {process} (137)."
  assert order in output
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_stuck_process_is_named(process, pod, tmp_path, run):
  plan = [{"process": process, "at": "data", "count": 5, "do": "HANG"}]
  _, workdir = run("--config.watch.stall_seconds=15", plan=plan)
  words = f"Process {process} made no progress for 15 s while fetching data "
  assert words + "after step " in jobs.log(tmp_path, process)
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize(
  "do, word", [("FULL", "large"), ("READ_ONLY", "denied")]
)
def test_failing_save_leaves_the_older_ones(do, word, pod, tmp_path, run):
  for folder in (tmp_path, *tmp_path.parents):
    if folder.stat().st_uid == tmp_path.stat().st_uid:
      folder.chmod(folder.stat().st_mode | 0o055)
  plan = [{"process": 0, "at": "save", "count": 2, "do": do}]
  output, workdir = run(plan=plan, restarts=0, code=74)
  assert word in output.lower(), output
  assert "The checkpoint of step 20 cannot be written to" in output
  # Threads of Orbax may print theirs.
  assert not re.search(r'File ".*/vae_jax/', output), output
  assert restore.load_state(workdir).step == 10
  run()
  jobs.assert_undisturbed(workdir, pod)
