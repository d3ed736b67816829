"""Jobs that are killed many times end in the bits of an undisturbed run."""

import collections
import gc
import logging
import os
import pathlib
import threading

import jax
import numpy as np
import pytest

from tests.support import jobs
from tests.support.tiny import tiny_config, tiny_experiment
from vae_jax.training import checkpoint
from vae_jax.training import state as state_lib
from vae_jax.training import writer as writer_lib

PLACES = ("cache", "compile", "step", "save", "evaluate")
STEPS = 200
# Faults at each place, in process 0 and in another one.
ROUNDS = int(os.environ.get("ROUNDS", "1"))
SAVES = int(os.environ.get("SAVES", "900"))


def plan_of(seed, processes, do, rounds):
  """Returns faults of process 0 and of another one at each place.

  Their order and their moments are random.
  """
  random = np.random.RandomState(seed)
  plan = []
  for place in PLACES * rounds:
    for process in (0, random.randint(1, processes)):
      count = random.randint(2, 6) if place == "step" else 1
      # A signal must arrive before the end of the place.
      delay = 0.0 if do == "TERM" else float(random.uniform(0, 0.2))
      fault = {"process": int(process), "at": place, "count": int(count)}
      plan.append({**fault, "delay": delay, "do": do})
  return [plan[i] for i in random.permutation(len(plan))]


def survive(plan, layout, folder, faces_dir):
  """Runs a job through all faults of a plan to its end; see `jobs.job`."""
  settings = {"layout": layout, "plan": plan, "restarts": len(plan) + 2}
  return jobs.job(folder, faces_dir, steps=STEPS, **settings)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, faces_dir):
  """Returns {layout: workdir} of undisturbed runs."""
  workdirs = {}
  for layout in ((2, 2), (4, 1)):
    folder = tmp_path_factory.mktemp("undisturbed")
    _, workdirs[layout] = survive([], layout, folder, faces_dir)
  jobs.assert_close(*workdirs.values())
  return workdirs


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(2, 2), (4, 1)])
def test_killed_at_random_moments_it_ends_in_the_same_bits(
  layout, undisturbed, tmp_path, faces_dir
):
  plan = plan_of(layout[0], layout[0], "KILL", rounds=ROUNDS)
  _, workdir = survive(plan, layout, tmp_path, faces_dir)
  kills = collections.Counter(
    (fault["at"], "lead" if fault["process"] == 0 else "worker")
    for fault in jobs.faults(tmp_path)
  )
  print(layout, dict(kills))
  # A process may end before its kill.
  assert sum(kills.values()) >= 0.8 * len(plan)
  jobs.assert_undisturbed(workdir, undisturbed[layout])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(2, 2), (4, 1)])
def test_stopped_at_random_moments_it_ends_in_the_same_bits(
  layout, undisturbed, tmp_path, faces_dir
):
  plan = plan_of(layout[0] + 1, layout[0], "TERM", rounds=1)
  output, workdir = survive(plan, layout, tmp_path, faces_dir)
  assert len(jobs.faults(tmp_path)) >= 8
  assert "Traceback" not in output
  # Each stop adds a row of the steps since the last one.
  steps = [r["steps"] for r in writer_lib.read_rows(workdir) if "steps" in r]
  assert sum(steps) == STEPS
  jobs.assert_undisturbed(workdir, undisturbed[layout])


@pytest.mark.slow
def test_many_saves_leave_nothing_behind(tmp_path, faces_dir, request):
  """Counts files, open files, threads, objects and memory."""
  # pytest stores all log records.
  logging.disable(logging.CRITICAL)
  request.addfinalizer(lambda: logging.disable(logging.NOTSET))
  config = tiny_config(faces_dir)
  config.data.image_shape = (16, 16, 1)
  state = state_lib.init_state(tiny_experiment(config))
  state = jax.tree.map(np.asarray, state)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  pages = pathlib.Path("/proc/self/statm")

  def save(first, last):
    for step in range(first, last):
      checkpoints.save(state.replace(step=np.int32(step)), config)
    checkpoints.wait()
    gc.collect()
    return {
      "files": len(list(tmp_path.rglob("*"))),
      "open": len(os.listdir("/proc/self/fd")),
      "threads": threading.active_count(),
      "objects": len(gc.get_objects()),
      "bytes": int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }

  # Memory of Orbax's threads grows until then.
  before = save(0, 300)
  after = save(300, SAVES)
  checkpoints.close()
  print(before, after)
  assert after["files"] <= before["files"]
  assert after["open"] <= before["open"] + 5
  assert after["threads"] <= before["threads"] + 5
  # A hundredth of what one more object per array and save would be.
  arrays = len(jax.tree.leaves(state))
  assert after["objects"] - before["objects"] < 0.01 * arrays * SAVES + 1000
  # A hundred bytes of each array and save.
  assert after["bytes"] - before["bytes"] < 100 * arrays * SAVES
