"""An object store that fails for a while: nothing is lost."""

import errno
import shutil

import numpy as np
import pytest

from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax import config as config_lib
from vae_jax.config import exits
from vae_jax.data import remote
from vae_jax.figures import png
from vae_jax.runtime import locks, preemption, storage, transfer
from vae_jax.train import train
from vae_jax.training import checkpoint, progress, provenance, restore, store
from vae_jax.training import workdir as workdir_lib
from vae_jax.training import writer as writer_lib
from vae_jax.training.state import TrainState

# What s3fs raises for SlowDown, RequestTimeout and InternalError, and an error
# without errno.
_TRANSIENT = [
  OSError(errno.EBUSY, "Please reduce your request rate."),
  TimeoutError("Your socket connection was not read from in time."),
  OSError(errno.EREMOTEIO, "We encountered an internal error."),
  RuntimeError("429"),
]


@pytest.fixture
def faults(monkeypatch):
  """Returns the list of the store's faults: (kind of request, part of the key,
  error to raise)."""
  faults = []
  s3fs = pytest.importorskip("s3fs")
  real = s3fs.S3FileSystem._call_s3

  async def call(self, method, *args, **kwargs):
    key = str(kwargs.get("Key") or kwargs.get("Delete"))
    for verb, part, error in faults:
      if method.startswith(verb) and part in key:
        raise error
    return await real(self, method, *args, **kwargs)

  monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
  return faults


def _state(step):
  arrays, count = {"w": np.full(3, step, np.float32)}, np.int32(step)
  return TrainState(count, arrays, arrays, arrays, count, count, count)


def _claim(address):
  """Starts a run there, and ends it."""
  with workdir_lib.claim(str(address), config_lib.default()):
    pass


@pytest.fixture
def saved(address):
  """Returns the address of a run with checkpoints of steps 2 and 4."""
  checkpoints = checkpoint.Checkpoints(str(address), keep_latest=2)
  for step in (2, 4):
    checkpoints.save(_state(step), config_lib.default())
  checkpoints.wait()
  checkpoints.close()
  return str(address)


@pytest.mark.parametrize(
  "part, error",
  [
    *(("4/state/", error) for error in _TRANSIENT),
    ("4/checksum/", _TRANSIENT[0]),
  ],
)
def test_failing_store_damages_no_checkpoint(saved, faults, part, error):
  faults.append(("get", part, error))
  with pytest.raises(storage.Unreachable, match="s3://bucket") as raised:
    restore.restore(saved, _state(0))
  assert raised.value.exit_code == exits.EXIT_STORAGE


def test_store_that_fails_in_mid_run_ends_it_within_a_step(
  address, faces_dir, faults
):
  faults.append(("put", "checkpoints/", _TRANSIENT[0]))
  settings = {"train__num_steps": 5000, "checkpoint__every_steps": 500}
  there = "step 500 cannot be written to s3://bucket.* reduce your request rate"
  with pytest.raises(checkpoint.Unsaved, match=there):
    train(tiny_config(faces_dir, **settings), str(address))
  # The next save, which would wait for this one, is of step 1000.
  assert 500 <= writer_lib.read_rows(str(address))[-1]["step"] < 1000
  assert restore.steps(address) == []


def test_full_disk_damages_no_checkpoint(saved, monkeypatch, caplog):
  assert_trees_equal(restore.restore(saved, _state(0)), _state(4))
  assert "cannot be read" not in caplog.text
  full = shutil._ntuple_diskusage(1, 1, 0)
  monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: full)
  with pytest.raises(OSError, match="only 0.00 GB are free") as raised:
    restore.restore(saved, _state(0))
  assert exits.exit_code(raised.value) == exits.EXIT_STORAGE


@pytest.mark.parametrize(
  "verb, key, error",
  [
    *(("put", ".owner", error) for error in _TRANSIENT),
    ("head", "config.json", _TRANSIENT[0]),
    ("put", "config.json", _TRANSIENT[0]),
  ],
)
def test_refused_start_may_succeed_later(address, faults, verb, key, error):
  faults.append((verb, key, error))
  with pytest.raises(storage.Unreachable, match="may succeed later"):
    _claim(address)
  faults.clear()
  assert not (address / ".owner").exists()


def test_missing_access_is_wrong_input(address, faults):
  faults.append(("put", ".owner", PermissionError("Access Denied")))
  with pytest.raises(config_lib.ConfigError, match="--workdir=s3://bucket"):
    _claim(address)


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_end_of_a_lease_hides_no_other_error(address, faults, verb, caplog):
  with pytest.raises(preemption.Interrupted):
    with locks.lease(address / ".owner"):
      faults.append((verb, ".owner", _TRANSIENT[0]))
      raise preemption.Interrupted("Stopped.")
  assert ".owner could not be removed" in caplog.text


@pytest.mark.parametrize("max_bytes", [0, 1 << 24])
@pytest.mark.parametrize("key", ["", "tensorboard"])
def test_next_flush_writes_rows_that_failed(address, faults, key, max_bytes):
  writer = writer_lib.WorkdirWriter(
    str(address), step=0, max_event_bytes=max_bytes
  )
  writer.row(1, "train", {"loss": 1.0})
  faults.append(("put", key, _TRANSIENT[0]))
  with pytest.raises(storage.Unreachable):
    writer.flush()
  faults.clear()
  writer.close()
  (row,) = writer_lib.read_rows(str(address))
  assert row["step"] == 1
  (events,) = (address / "tensorboard").glob("*tfevents*")
  assert b"train/loss" in events.read_bytes()


def test_last_rows_hide_no_other_error(address, faults, caplog):
  with pytest.raises(progress.Diverged):
    with store.Store(str(address), config_lib.default(), step=0):
      faults.append(("put", "metrics.jsonl", _TRANSIENT[0]))
      raise progress.Diverged("Not finite.")
  assert "last rows cannot be written" in caplog.text


def test_run_without_its_last_rows_is_not_finished(address, faults):
  with pytest.raises(storage.Unreachable):
    with store.Store(str(address), config_lib.default(), step=0):
      faults.append(("put", "metrics.jsonl", _TRANSIENT[0]))


def test_picture_that_cannot_be_written_is_unreachable(address, faults):
  faults.append(("put", "figures", _TRANSIENT[2]))
  with pytest.raises(storage.Unreachable, match="s3://bucket/.*/a.png"):
    png.save(np.zeros((2, 2, 1), np.uint8), address / "figures" / "a.png")


@pytest.mark.parametrize("verb", ["get", "put"])
def test_record_stops_no_run_and_loses_no_entry(address, faults, verb):
  for _ in range(2):
    with provenance.keep(str(address), config_lib.default()):
      pass
    faults.append((verb, "record.json", _TRANSIENT[0]))
  faults.clear()
  assert [e["outcome"] for e in provenance.read(str(address))] == ["finished"]


def test_data_that_cannot_be_copied_is_copied_later(
  address, faults, tmp_path, monkeypatch
):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  data = address / "mnist" / "1.0.0"
  storage.write_bytes(data / "a", b"a")
  faults.append(("get", "mnist/1.0.0/a", _TRANSIENT[0]))
  with pytest.raises(storage.Unreachable):
    remote.local(data, address)
  faults.clear()
  folder = remote.local(data, address)
  assert (folder / "a").read_bytes() == b"a"
