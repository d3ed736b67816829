"""Several real processes: the numbers of one, and recovery from faults."""

import functools
import json
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.support import jobs, programs
from vae_jax.runtime import storage
from vae_jax.training import restore

KILL_AT_A_STEP = {"process": 1, "at": "step", "count": 4, "do": "KILL"}
UNHEALTHY = "unhealthy (stopped sending heartbeats)"


@pytest.fixture
def run(tmp_path, faces_dir):
  """Runs the tiny job in the folder of the test; see `jobs.job`."""
  return functools.partial(jobs.job, tmp_path, faces_dir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, faces_dir):
  """Returns the workdir of one process with four devices."""
  folder = tmp_path_factory.mktemp("alone")
  return jobs.job(folder, faces_dir, layout=(1, 4))[1]


@pytest.fixture(scope="module")
def pod(tmp_path_factory, faces_dir):
  """Returns the workdir of two processes with two devices each."""
  output, workdir = jobs.job(tmp_path_factory.mktemp("pod"), faces_dir)
  assert "4 x cpu (cpu) in 2 processes" in output
  return workdir


def test_two_processes_train_as_one(alone, pod):
  jobs.assert_close(pod, alone)
  assert restore.steps(pod) == restore.steps(alone)
  assert (pod / "figures" / "samples.png").exists()


@pytest.mark.slow
def test_two_processes_evaluate_as_one_and_do_not_sample(alone, pod, faces_dir):
  for workdir, layout in ((alone, (1, 4)), (pod, (2, 2))):
    for mode, layout_of_mode in (("evaluate", layout), ("sample", (1, 4))):
      flag, folder = f"--mode={mode}", workdir.parent
      jobs.job(folder, faces_dir, flag, layout=layout_of_mode)
  output, _ = jobs.job(pod.parent, faces_dir, "--mode=sample", code=2)
  assert "--mode=sample runs in one process, not in 2" in output
  ours, theirs = (
    json.loads((w / "eval" / "test.json").read_text()) for w in (pod, alone)
  )
  for name in ("neg_elbo", "rate", "num_examples", "mutual_information"):
    assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
  ours, theirs = (
    storage.read_arrays(w / "figures" / "samples.npz")["images"].astype(int)
    for w in (pod, alone)
  )
  assert abs(ours - theirs).max() <= 1


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


@pytest.mark.slow
def test_clock_skew_changes_nothing(pod, run):
  _, workdir = run(plan=[{"process": 1, "at": "clock"}], restarts=0)
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
def test_second_job_on_the_same_workdir_is_refused(tmp_path, faces_dir):
  plan = [{"process": 1, "at": "data", "count": 3, "do": "HANG"}]
  call = jobs.arguments(tmp_path, faces_dir, plan=plan, restarts=0)
  with subprocess.Popen(**call) as first:
    try:
      while not jobs.faults(tmp_path):
        assert first.poll() is None
        time.sleep(0.1)
      other, workdir = tmp_path / "other", f"--workdir={tmp_path / 'run'}"
      output, _ = jobs.job(other, faces_dir, workdir, code=2)
      for words in (output, jobs.log(other, 1)):
        assert "Another process is training in" in words
      assert first.poll() is None
    finally:
      first.kill()


@pytest.mark.slow
def test_bad_batch_on_one_device_is_skipped_by_all(run):
  flag = "--config.objective.name=tests.support.tiny.nan_on_one_device"
  _, workdir = run(flag, steps=10)
  skipped = {
    r["step"]: r["skipped"] for r in jobs.rows(workdir) if "skipped" in r
  }
  assert skipped == {step: int(step == 4) for step in range(1, 11)}


def refuse(folder, faces, *flags):
  """Returns outputs of two processes, the second one with flags of its own,
  that refuse to run together."""
  call = jobs.arguments(folder, faces, layout=(2, 1))
  words = call["args"]
  command = [sys.executable, "-m", "vae_jax.main"]
  command += words[words.index("--") + 1 :]
  command += [f"--coordinator=127.0.0.1:{programs.free_port()}"]
  command += ["--num_processes=2"]
  started = [
    subprocess.Popen(**(call | {"args": [*command, f"--process_id={i}", *own]}))
    for i, own in enumerate(([], flags))
  ]
  outputs = [process.communicate(timeout=120)[0] for process in started]
  assert [p.returncode for p in started] == [2, 2], outputs
  return outputs


@pytest.mark.slow
def test_processes_with_another_config_are_refused(tmp_path, faces_dir):
  for output in refuse(tmp_path, faces_dir, "--config.seed=5"):
    assert "config.seed is 5 in process 1 (" in output
    assert ", 0 in process 0 (" in output
    assert "Traceback" not in output
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_other_data_are_refused(tmp_path, faces_dir):
  other = tmp_path / "tfds"
  shutil.copytree(faces_dir, other)
  record = next(other.rglob("*train*array_record*"))
  content = record.read_bytes()
  record.write_bytes(content[:500] + b"x" + content[501:])
  outputs = refuse(tmp_path, faces_dir, f"--config.data.dir={other}")
  assert "the training images' files is" in outputs[0]
  assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_run_moves_between_layouts(tmp_path, faces_dir, run):
  """Stops and resumes on 2 x 4, 1 x 8, 4 x 1 and 1 x 1 devices."""
  stop = {"process": 0, "at": "step", "count": 1, "do": "TERM"}
  steps = []
  for layout in [(2, 4), (1, 8), (4, 1), (1, 1)]:
    last = layout == (1, 1)
    plan, code = ([], 0) if last else ([None] * len(steps) + [stop], 75)
    _, workdir = run(layout=layout, plan=plan, restarts=0, steps=100, code=code)
    steps.append(int(restore.load_state(workdir).step))
  assert steps[-1] == 100 and steps == sorted(set(steps))
  folder = tmp_path / "reference"
  _, reference = jobs.job(folder, faces_dir, layout=(1, 1), steps=100)
  jobs.assert_close(workdir, reference)
