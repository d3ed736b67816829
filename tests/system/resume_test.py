"""Killed, stopped or damaged runs end in the bits of an undisturbed one."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support import jobs
from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax import config as config_lib
from vae_jax.data import pipeline
from vae_jax.runtime import preemption
from vae_jax.train import train
from vae_jax.training import restore, stored_state
from vae_jax.training import writer as writer_lib


def _command(workdir, faces_dir):
  script = (
    "import sys; from tests.support.tiny import tiny_config; "
    "from vae_jax.train import train; "
    "c = tiny_config(sys.argv[1], checkpoint__every_steps=2, "
    "train__num_steps=80, train__steps_per_call=2, "
    "train__validate_every_steps=40, train__log_every_steps=10); "
    "train(c, sys.argv[2])"
  )
  return [sys.executable, "-c", script, str(faces_dir), str(workdir)]


@pytest.mark.slow
def test_run_killed_at_random_moments_ends_in_the_same_bits(
  faces_dir, tmp_path
):
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  subprocess.run(_command(undisturbed, faces_dir), check=True, **quiet)
  moments, saving = np.random.default_rng(0), 0

  def at_step_20(process):
    steps = []
    while max(steps, default=0) < 20:
      assert process.poll() is None, "the run ended by itself"
      time.sleep(0.01)
      steps = restore.steps(killed)

  def at_random(process):
    while process.poll() is None and not restore.steps(killed):
      time.sleep(0.01)
    time.sleep(moments.uniform(0, 10))

  def while_saving(process):
    while process.poll() is None:
      if list((killed / "checkpoints").glob("*tmp*")):
        return
      time.sleep(0.001)

  for wait in [at_step_20, *[while_saving, at_random] * 3]:
    process = subprocess.Popen(_command(killed, faces_dir), **quiet)
    wait(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saving += bool(list((killed / "checkpoints").glob("*tmp*")))
  subprocess.run(_command(killed, faces_dir), check=True, **quiet)
  jobs.assert_undisturbed(killed, undisturbed)
  assert saving >= 1


def test_signal_saves_and_the_same_command_resumes(
  reference, faces_dir, tmp_path, monkeypatch
):
  _, state = reference
  c = tiny_config(faces_dir)
  original = pipeline.train_data

  def interrupting(source, start, count, **options):
    if start == 10 and count:
      os.kill(os.getpid(), signal.SIGTERM)
    return original(source, start, count, **options)

  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patch:
    patch.setattr(pipeline, "train_data", interrupting)
    with pytest.raises(preemption.Interrupted, match="Stopped at") as stopped:
      train(c, str(tmp_path))
  assert stopped.value.exit_code == 75
  assert signal.getsignal(signal.SIGTERM) is before
  (step,) = restore.steps(tmp_path)
  assert 0 < step < 20
  assert f"step {step} of 20" in str(stopped.value)
  assert_trees_equal(train(c, str(tmp_path)), state)


def test_workdir_of_another_config_is_refused(reference, faces_dir):
  folder, state = reference
  c = tiny_config(faces_dir, optim__learning_rate=0.5)
  with pytest.raises(config_lib.ConfigError, match="learning_rate: 0.5 here"):
    train(c, str(folder))
  # The same command on a finished run does nothing to it.
  before = writer_lib.read_rows(folder)
  assert_trees_equal(train(tiny_config(faces_dir), str(folder)), state)
  assert writer_lib.read_rows(folder) == before


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


@pytest.mark.parametrize(
  "damage, all_files",
  [
    (lambda path: path.write_bytes(path.read_bytes()[:10]), True),
    (lambda path: path.write_bytes(b""), True),
    (_flip, False),
    (pathlib.Path.unlink, False),
  ],
  ids=["cut", "empty", "flip", "lose"],
)
def test_damaged_checkpoint_falls_back(
  damage, all_files, reference, faces_dir, tmp_path, caplog
):
  c = tiny_config(
    faces_dir, checkpoint__every_steps=8, checkpoint__keep_latest=3
  )
  train(c, str(tmp_path))
  newest = tmp_path / "checkpoints" / "20" / "state"
  files = [path for path in newest.rglob("*") if path.is_file()]
  # The arrays, in which no format detects a flipped bit.
  largest = max(files, key=lambda path: path.stat().st_size)
  for path in files if all_files else [largest]:
    damage(path)
  again = train(c, str(tmp_path))
  assert "step 20" in caplog.text and "cannot be read" in caplog.text
  assert list((tmp_path / "checkpoints").glob("unreadable-20-*"))
  assert_trees_equal(again, reference[1])


def test_wrong_checksum_makes_a_checkpoint_unreadable(
  reference, faces_dir, tmp_path, caplog
):
  folder, state = reference
  shutil.copytree(folder, tmp_path / "run")
  path = tmp_path / "run" / "checkpoints" / "20" / "checksum" / "metadata"
  crc = json.loads(path.read_text())
  assert crc["crc32"] == stored_state.checksum(state)
  path.write_text(json.dumps({k: v ^ 1 for k, v in crc.items()}))
  for load in (restore.load_state, restore.load_params):
    with pytest.raises(config_lib.ConfigError, match="None of the checkpoints"):
      load(tmp_path / "run")
  assert "its content is not what was saved" in caplog.text


def test_checksum_depends_on_each_number_and_its_place():
  state = {"a": np.arange(3.0), "b": np.zeros((2, 2), np.int8)}
  sums = {stored_state.checksum(state)}
  for name, place, value in (("a", 1, -1.0), ("a", 0, -0.0), ("b", (1, 0), 1)):
    changed = {k: v.copy() for k, v in state.items()}
    changed[name][place] = value
    sums.add(stored_state.checksum(changed))
  assert len(sums) == 4


def test_failed_start_does_not_keep_its_config(faces_dir, tmp_path):
  failed = tiny_config(faces_dir, optim__learning_rate=0.5)
  (tmp_path / "config.json").write_text(config_lib.to_json(failed))
  c = tiny_config(faces_dir, train__num_steps=2)
  train(c, str(tmp_path))
  assert restore.load_config(tmp_path).optim.learning_rate == 1e-3


def test_best_checkpoint_has_the_lowest_score(faces_dir, tmp_path):
  c = tiny_config(
    faces_dir, train__validate_every_steps=5, optim__learning_rate=0.05
  )
  train(c, str(tmp_path))
  rows = writer_lib.read_rows(tmp_path)
  rows = [r for r in rows if r["split"] == "validation"]
  scores = {r["step"]: r["neg_elbo"] for r in rows}
  best = restore.load_state(str(tmp_path), best=True)
  assert int(best.step) == min(scores, key=scores.get)
  assert int(restore.load_state(str(tmp_path)).step) == 20


def test_load_params_returns_the_weights(reference):
  folder, state = reference
  assert_trees_equal(restore.load_params(str(folder)), state.params)
  with pytest.raises(config_lib.ConfigError, match="no run in"):
    restore.load_params(str(folder / "nowhere"))
