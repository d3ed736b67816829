"""An object store that fails for a while: nothing is lost, or taken for lost."""

import errno
import shutil

import numpy as np
import pytest

from tests.helpers import assert_same
from vae_jax import checkpoint, command_line, storage, train_step, transfer
from vae_jax import config as config_lib

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = [
  pytest.mark.usefixtures("quick_owners"),
  pytest.mark.filterwarnings(
    # Of the clients' own sessions, which they close when they are collected.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
  ),
]
# What s3fs makes of SlowDown, RequestTimeout and InternalError, and what has
# no errno.
_PASSING = [
  OSError(errno.EBUSY, "Please reduce your request rate."),
  TimeoutError("Your socket connection was not read from in time."),
  OSError(errno.EREMOTEIO, "We encountered an internal error."),
  RuntimeError("429"),
]


@pytest.fixture
def fail(monkeypatch):
  """Returns what makes requests fail: of a kind, of a part of a key."""
  faults = []
  real = s3fs.S3FileSystem._call_s3

  async def call(self, method, *args, **kwargs):
    key = kwargs.get("Key", "")
    for verb, part, error in faults:
      if method.startswith(verb) and part in key:
        raise error
    return await real(self, method, *args, **kwargs)

  monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
  return lambda *fault: faults.append(fault)


def _state(step):
  return train_step.TrainState(
    **{
      name: {"w": np.full(3, step, np.float32)}
      if name in ("params", "model_state", "opt_state")
      else np.int32(step)
      for name in train_step.TrainState.__dataclass_fields__
    }
  )


@pytest.fixture
def saved(address):
  """The address of a run with checkpoints of steps 2 and 4, and their state."""
  kept = checkpoint.Checkpoints(str(address), keep_latest=2)
  for step in (2, 4):
    kept.save(_state(step), config_lib.default(), score=float(step))
  kept.wait()
  kept.close()
  return str(address)


@pytest.mark.parametrize(
  "part, error",
  [
    *(("4/state/", error) for error in _PASSING),
    ("4/metrics/", _PASSING[0]),
    ("4/checksum/", _PASSING[0]),
  ],
)
def test_a_store_that_fails_damages_no_checkpoint(saved, fail, part, error):
  fail("get", part, error)
  with pytest.raises(storage.Unreachable, match="s3://bucket") as raised:
    checkpoint.restore(saved, _state(0))
  assert raised.value.exit_code == command_line.EXIT_STORAGE


def test_nor_does_a_full_disk(saved, monkeypatch):
  state, unreadable = checkpoint.restore(saved, _state(0))
  assert_same(state, _state(4))
  assert not unreadable
  monkeypatch.setattr(
    transfer.shutil,
    "disk_usage",
    lambda folder: shutil._ntuple_diskusage(1, 1, 0),
  )
  with pytest.raises(OSError, match="only 0.00 GB are free") as raised:
    checkpoint.restore(saved, _state(0))
  assert raised.value.errno in command_line.STORAGE_ERRORS
