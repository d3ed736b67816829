"""Checkpoints and runs in an object store, through kills and restarts."""

import logging
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support import jobs
from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.modes import evaluate, sample
from vae_jax.runtime import staging, storage, transfer
from vae_jax.train import train
from vae_jax.training import restore
from vae_jax.training import writer as writer_lib


def test_checkpoint_is_complete_with_its_last_file(any_address, monkeypatch):
  for name in ("5/_CHECKPOINT_METADATA", "5/metrics/metrics", "5/state/large"):
    storage.write_bytes(any_address / name, b"old")
  # Left by a killed upload, and by a checkpoint that was set aside.
  for name in ("7/state/large", "9/state/larger"):
    storage.write_bytes(any_address / name, b"half")
  storage.write_bytes(any_address / "unreadable-3-1" / "state" / "large", b"")
  assert [p.name for p in staging.complete(any_address)] == ["5"]
  mirror = staging.Mirror(any_address)
  # All that decides which one to remove, but not the large state.
  sizes = {"5/_CHECKPOINT_METADATA": 3, "5/metrics/metrics": 3}
  assert transfer.local_sizes(mirror.folder) == sizes
  puts = []
  system = storage.file_system(any_address)
  original = system.put_file

  def put_file(source, target):
    puts.append(target)
    original(source, target)

  monkeypatch.setattr(system, "put_file", put_file)
  for name in ("_CHECKPOINT_METADATA", "a", "state/large"):
    storage.write_bytes(mirror.folder / "9" / name, b"new")
  mirror.copy_after(lambda: None)
  mirror.wait()
  assert puts[-1] == str(any_address / "9" / "_CHECKPOINT_METADATA")
  assert len(puts) == 3
  mirror.copy_after(lambda: shutil.rmtree(mirror.folder / "5"))
  mirror.close()
  assert len(puts) == 3 and not mirror.folder.exists()
  nine = [f"9/{name}" for name in ("_CHECKPOINT_METADATA", "a", "state/large")]
  names = sorted(transfer.listing(any_address))
  assert names == [*nine, "unreadable-3-1/state/large"]


def test_mirror_removes_nothing_of_its_successor(
  address, tmp_path, monkeypatch
):
  def on_host(name):
    monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / name))
    return staging.Mirror(address)

  def save(mirror, name, gone=None):
    for file in ("_CHECKPOINT_METADATA", "state/large"):
      storage.write_bytes(mirror.folder / name / file, b"")
    if gone:
      shutil.rmtree(mirror.folder / gone)
    mirror.copy_after(lambda: None)
    mirror.wait()

  storage.write_bytes(address / "2" / "_CHECKPOINT_METADATA", b"")
  first = on_host("one")
  save(first, "4", gone="2")
  second = on_host("two")
  save(second, "6")
  save(first, "5", gone="4")
  assert {p.name for p in staging.complete(address)} == {"5", "6"}
  first.close()
  second.close()


def test_mirror_raises_the_error_of_its_copy(address):
  mirror = staging.Mirror(address)

  def fail():
    raise OSError("no")

  mirror.copy_after(fail)
  with pytest.raises(OSError, match="no"):
    mirror.wait()
  mirror.close()


def _config(data, cache_dir):
  settings = dict(data__cache="host", data__cache_dir=str(cache_dir))
  settings |= dict(train__num_steps=24, train__steps_per_call=2)
  settings |= dict(train__validate_every_steps=12, train__log_every_steps=5)
  settings |= dict(checkpoint__every_steps=4, eval__latents=False)
  return tiny_config(data, **settings)


# Killed after the rows of step 12, but before its checkpoint.
_KILLED = """
import os, signal, sys
from tests.system import remote_runs_test
from vae_jax.train import train
from vae_jax.training import checkpoint
save = checkpoint.Checkpoints.save
def kill(self, state, *rest, **more):
  if int(state.step) == 12:
    self.wait()
    os.kill(os.getpid(), signal.SIGKILL)
  save(self, state, *rest, **more)
checkpoint.Checkpoints.save = kill
train(remote_runs_test._config(*sys.argv[2:]), sys.argv[1])
"""


@pytest.mark.slow
def test_killed_and_resumed_run_ends_in_the_bits_of_a_local_one(
  address, data, faces_dir, tmp_path, monkeypatch, caplog
):
  there, here = str(address / "run"), str(tmp_path / "run")
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / "one"))
  process = subprocess.Popen(
    [sys.executable, "-c", _KILLED, there, data, str(address / "cache")],
    stderr=subprocess.PIPE,
  )
  train(_config(faces_dir, ""), here)
  _, errors = process.communicate()
  assert process.returncode == -signal.SIGKILL, errors
  assert (address / "run" / ".owner").exists()
  assert restore.steps(there)[-1] == 8
  # The next process on the host removes the files of a killed one.
  left = list((tmp_path / "one" / "staging").iterdir())
  with staging.scratch() as one, staging.scratch() as other:
    assert one.exists() and not [p for p in left if p.exists()]
  assert len(left) == 1 and not other.exists()
  assert writer_lib.read_rows(there)[-1]["step"] == 12
  # On another host, without the copies of the first one.
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / "two"))
  with caplog.at_level(logging.INFO, "absl"):
    train(_config(data, address / "cache"), there)
  assert "Resuming at step 8 of 24" in caplog.text
  assert "decoded" not in caplog.text
  assert not (address / "run" / ".owner").exists()
  assert not list((tmp_path / "two" / "staging").iterdir())
  jobs.assert_undisturbed(there, here)
  assert restore.steps(there) == restore.steps(here)
  for workdir in (there, here):
    config = restore.load_config(workdir)
    evaluate.evaluate(config, workdir)
    sample.run(config, workdir, count=8)
  figures = ("samples.npz", "samples.png", "reconstructions.png")
  for name in ("eval/test.json", *(f"figures/{name}" for name in figures)):
    written = storage.path(here) / name
    assert (address / "run" / name).read_bytes() == written.read_bytes()


def test_unreadable_checkpoint_is_set_aside(
  address, faces_dir, tmp_path, monkeypatch
):
  config = tiny_config(faces_dir, train__num_steps=4, checkpoint__every_steps=2)
  config.checkpoint.keep_latest = 2
  state = train(config, str(address))
  folder = address / "checkpoints" / "4" / "state"
  for name in transfer.listing(folder):
    storage.write_bytes(folder / name, b"no")
  again = train(config, str(address))
  assert list((address / "checkpoints").glob("unreadable-4-*"))
  assert_trees_equal(again, state)
  assert restore.steps(str(address)) == [2, 4]
