"""Several real processes compute the numbers of one."""

import json
import shutil

import pytest

from tests.support import jobs
from vae_jax.runtime import storage
from vae_jax.training import restore


def test_two_processes_train_as_one(alone, pod):
  log = jobs.log(pod.parent, 0)
  assert "4 x cpu (cpu) in 2 processes" in log
  # They connected at the start, when none was compiling.
  connected, _, later = log.partition("Process 0 (")
  assert "[Gloo] Rank 0" in connected and "[Gloo]" not in later
  jobs.assert_close(pod, alone)
  assert restore.steps(pod) == restore.steps(alone)
  assert (pod / "figures" / "samples.png").exists()


@pytest.mark.slow
def test_two_processes_evaluate_as_one_and_do_not_sample(
  alone, pod, tmp_path, faces_dir
):
  copies = [tmp_path / "alone" / "run", tmp_path / "pod" / "run"]
  for workdir, copy, layout in zip(
    (alone, pod), copies, ((1, 4), (2, 2)), strict=True
  ):
    shutil.copytree(workdir, copy)
    for mode, layout_of_mode in (("evaluate", layout), ("sample", (1, 4))):
      flag = f"--mode={mode}"
      jobs.job(copy.parent, faces_dir, flag, layout=layout_of_mode)
  alone, pod = copies
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


@pytest.mark.slow
def test_clock_skew_changes_nothing(pod, run):
  _, workdir = run(plan=[{"process": 1, "at": "clock"}], restarts=0)
  jobs.assert_undisturbed(workdir, pod)


@pytest.mark.slow
def test_bad_batch_on_one_device_is_skipped_by_all(run):
  flag = "--config.objective.name=tests.support.tiny.nan_on_one_device"
  _, workdir = run(flag, steps=10)
  skipped = {
    r["step"]: r["skipped"] for r in jobs.rows(workdir) if "skipped" in r
  }
  assert skipped == {step: int(step == 4) for step in range(1, 11)}


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
