"""Several real processes: the numbers of one, and recovery from faults."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tests.support import jobs
from vae_jax.runtime import storage
from vae_jax.training import restore

# In one worker, so that the jobs of the fixtures run once.

KILL_AT_A_STEP = {"process": 1, "at": "step", "count": 4, "do": "KILL"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, faces_dir):
  """Returns the workdir of one process with four devices."""
  folder = tmp_path_factory.mktemp("alone")
  ended, workdir = jobs.job(folder, faces_dir, layout=(1, 4))
  assert ended.returncode == 0, ended.stdout
  return workdir


@pytest.fixture(scope="module")
def pod(tmp_path_factory, faces_dir):
  """Returns the workdir of two processes with two devices each."""
  folder = tmp_path_factory.mktemp("pod")
  ended, workdir = jobs.job(folder, faces_dir)
  assert ended.returncode == 0, ended.stdout
  assert "4 x cpu (cpu) in 2 processes" in ended.stdout
  return workdir


def test_two_processes_train_as_one(alone, pod):
  jobs.assert_close(pod, alone)
  assert restore.steps(pod) == restore.steps(alone)
  assert (pod / "figures" / "samples.png").exists()


@pytest.mark.slow
def test_two_processes_evaluate_as_one_and_do_not_sample(
  alone, pod, tmp_path, faces_dir
):
  for workdir, layout in ((alone, (1, 4)), (pod, (2, 2))):
    for mode, layout_of_mode in (("evaluate", layout), ("sample", (1, 4))):
      ended, _ = jobs.job(
        workdir.parent, faces_dir, f"--mode={mode}", layout=layout_of_mode
      )
      assert ended.returncode == 0, ended.stdout
  ended, _ = jobs.job(pod.parent, faces_dir, "--mode=sample", layout=(2, 2))
  assert ended.returncode == 2
  assert "--mode=sample runs in one process, not in 2" in ended.stdout
  for name in ("neg_elbo", "rate", "num_examples", "mutual_information"):
    ours, theirs = (
      json.loads((w / "eval" / "test.json").read_text())[name]
      for w in (pod, alone)
    )
    assert ours == pytest.approx(theirs, rel=1e-5), name
  ours, theirs = (
    storage.read_arrays(w / "figures" / "samples.npz")["images"].astype(int)
    for w in (pod, alone)
  )
  assert abs(ours - theirs).max() <= 1


def test_killed_process_is_named_and_nothing_is_lost(pod, tmp_path, faces_dir):
  ended, workdir = jobs.job(tmp_path, faces_dir, plan=[KILL_AT_A_STEP])
  assert ended.returncode == 0, ended.stdout
  assert len(jobs.faults(tmp_path)) == 1
  words = ended.stdout.partition("unhealthy (stopped sending heartbeats)")[2]
  assert words.split()[1] == "1", ended.stdout
  assert "as they ended: 1 (137), 0 (134)." in ended.stdout
  assert "ended with code 137; starting it again (1 of" in ended.stdout
  jobs.assert_undisturbed(workdir, pod)


def test_signal_to_one_process_stops_all_at_one_step(pod, tmp_path, faces_dir):
  plan = [KILL_AT_A_STEP | {"do": "TERM", "count": 3}]
  ended, workdir = jobs.job(tmp_path, faces_dir, plan=plan, restarts=0)
  assert ended.returncode == 75, ended.stdout
  step = restore.load_state(workdir).step
  assert 0 < step < 40
  assert f"Stopped at step {step} of 40 and saved it" in ended.stdout
  assert f"Stopped at step {step} of 40" in jobs.log(tmp_path, 1)
  assert "as they ended: " in ended.stdout and "1 (75)" in ended.stdout
  # Resumed in one process, with as many devices.
  ended, workdir = jobs.job(tmp_path, faces_dir, layout=(1, 4))
  assert ended.returncode == 0, ended.stdout
  jobs.assert_close(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_frozen_process_is_replaced(process, pod, tmp_path, faces_dir):
  plan = [KILL_AT_A_STEP | {"do": "STOP", "process": process}]
  ended, workdir = jobs.job(tmp_path, faces_dir, plan=plan)
  assert ended.returncode == 0, ended.stdout
  words = jobs.log(tmp_path, 1 - process)
  assert "unhealthy (stopped sending heartbeats)" in words or (
    "DEADLINE_EXCEEDED" in words
  )
  order = f"as they ended: {1 - process} (134), {process} (137)."
  assert order in ended.stdout
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_stuck_process_is_named(process, pod, tmp_path, faces_dir):
  plan = [{"process": process, "at": "data", "count": 5, "do": "HANG"}]
  ended, workdir = jobs.job(
    tmp_path, faces_dir, "--config.watch.stall_seconds=15", plan=plan
  )
  assert ended.returncode == 0, ended.stdout
  assert (
    f"Process {process} made no progress for 15 s while fetching data after "
    "step " in jobs.log(tmp_path, process)
  )
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
@pytest.mark.parametrize(
  "do, word", [("FULL", "large"), ("READ_ONLY", "denied")]
)
def test_failing_save_leaves_the_older_ones(do, word, pod, tmp_path, faces_dir):
  for folder in (tmp_path, *tmp_path.parents):
    if folder.stat().st_uid == tmp_path.stat().st_uid:
      folder.chmod(folder.stat().st_mode | 0o055)
  plan = [{"process": 0, "at": "save", "count": 2, "do": do}]
  ended, workdir = jobs.job(tmp_path, faces_dir, plan=plan, restarts=0)
  assert ended.returncode == 74, ended.stdout
  assert word in ended.stdout.lower(), ended.stdout
  assert "The checkpoint of step 20 cannot be written to" in ended.stdout
  # Threads of Orbax may print theirs.
  assert not re.search(r'File ".*/vae_jax/', ended.stdout), ended.stdout
  assert restore.load_state(workdir).step == 10
  ended, workdir = jobs.job(tmp_path, faces_dir)
  assert ended.returncode == 0, ended.stdout
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
def test_clock_skew_changes_nothing(pod, tmp_path, faces_dir):
  plan = [{"process": 1, "at": "clock"}]
  ended, workdir = jobs.job(tmp_path, faces_dir, plan=plan, restarts=0)
  assert ended.returncode == 0, ended.stdout
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
      other = tmp_path / "other"
      workdir = f"--workdir={tmp_path / 'run'}"
      ended, _ = jobs.job(other, faces_dir, workdir)
      assert ended.returncode == 2, ended.stdout
      assert "Another process is training in" in ended.stdout
      assert "Another process is training in" in jobs.log(other, 1)
      assert first.poll() is None
    finally:
      first.kill()


@pytest.mark.slow
def test_bad_batch_on_one_device_is_skipped_by_all(tmp_path, faces_dir):
  flags = ("--config.objective.name=tests.support.tiny.nan_on_one_device",)
  ended, workdir = jobs.job(tmp_path, faces_dir, *flags, steps=10)
  assert ended.returncode == 0, ended.stdout
  skipped = {
    r["step"]: r["skipped"] for r in jobs.rows(workdir) if "skipped" in r
  }
  assert skipped == {step: int(step == 4) for step in range(1, 11)}


def run_two(folder, faces, *flags_of_each):
  """Returns exit codes and outputs of two processes with their own flags."""
  call = jobs.arguments(folder, faces, layout=(2, 1))
  words = call["args"]
  forwarded = words[words.index("--") + 1 :]
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  started = []
  for index, flags in enumerate(flags_of_each):
    place = f"--coordinator=127.0.0.1:{port}", "--num_processes=2"
    command = [sys.executable, "-m", "vae_jax.main", *forwarded, *flags]
    command += [*place, f"--process_id={index}"]
    started.append(subprocess.Popen(**(call | {"args": command})))
  outputs = [process.communicate(timeout=120)[0] for process in started]
  return [p.returncode for p in started], outputs


@pytest.mark.slow
def test_processes_with_another_config_are_refused(tmp_path, faces_dir):
  codes, outputs = run_two(tmp_path, faces_dir, [], ["--config.seed=5"])
  assert codes == [2, 2], outputs
  for output in outputs:
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
  flags = [f"--config.data.dir={other}"]
  codes, outputs = run_two(tmp_path, faces_dir, [], flags)
  assert codes == [2, 2], outputs
  assert "the training images' files is" in outputs[0]
  assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_run_moves_between_layouts(tmp_path, faces_dir):
  """Stops and resumes on 2 x 4, 1 x 8, 4 x 1 and 1 x 1 devices."""
  stop = {"process": 0, "at": "step", "count": 1, "do": "TERM"}
  steps = []
  for layout in [(2, 4), (1, 8), (4, 1), (1, 1)]:
    last = layout == (1, 1)
    plan = [None] * len(steps) + [None if last else stop]
    ended, workdir = jobs.job(
      tmp_path, faces_dir, layout=layout, plan=plan, restarts=0, steps=100
    )
    assert ended.returncode == (0 if last else 75), ended.stdout
    steps.append(int(restore.load_state(workdir).step))
  assert steps[-1] == 100 and steps == sorted(set(steps))
  ended, reference = jobs.job(
    tmp_path / "reference", faces_dir, layout=(1, 1), steps=100
  )
  assert ended.returncode == 0, ended.stdout
  jobs.assert_close(workdir, reference)
