"""Many saves leave nothing behind."""

import gc
import logging
import os
import pathlib
import threading

import jax
import numpy as np
import pytest

from tests.support.tiny import tiny_config, tiny_experiment
from vae_jax.training import checkpoint
from vae_jax.training import state as state_lib

SAVES = int(os.environ.get("SAVES", "900"))


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
