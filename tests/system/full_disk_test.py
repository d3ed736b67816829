"""Runs on a disk that fills up, and validations that fail: what is saved stays
saved, and one sentence says what happened."""

import errno

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.support.tiny import assert_trees_equal, curve, tiny_config
from vae_jax.config import exits
from vae_jax.evaluate import bound, summaries
from vae_jax.runtime import storage
from vae_jax.train import train
from vae_jax.training import checkpoint, restore

ENDLESS = 5000  # steps


def _fill(monkeypatch, left):
  """Lets rows and events have so many more bytes."""
  real, lefts = storage.Appending.write, [left]

  def write(file, content):
    lefts[0] -= len(content)
    if lefts[0] < 0:
      file._file.close()
      file._file = open("/dev/full", "ab", buffering=0)
    real(file, content)

  monkeypatch.setattr(storage.Appending, "write", write)


@pytest.mark.parametrize("left", [0, 3_000, 20_000])
def test_full_disk_ends_a_run_at_once(left, faces_dir, tmp_path, monkeypatch):
  _fill(monkeypatch, left)
  c = tiny_config(faces_dir, train__num_steps=ENDLESS)
  with pytest.raises(OSError, match="No space left") as raised:
    train(c, str(tmp_path))
  assert exits.exit_code(raised.value) == 74
  words = exits.words(raised.value)
  assert words.startswith(str(tmp_path)) and "cannot be written" in words
  assert len(curve(tmp_path)) < 300


def test_full_disk_ends_any_write_with_its_name(tmp_path):
  with pytest.raises(OSError) as raised, storage.writing(tmp_path / "a.npy"):
    with open("/dev/full", "wb") as file:
      np.zeros(100_000).tofile(file)
  words = exits.words(raised.value)
  assert (
    words == f"{tmp_path}/a.npy cannot be written: No space left on device."
  )


def test_failed_save_ends_a_run_within_a_step(faces_dir, tmp_path, monkeypatch):
  def full(self, step):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(ocp.CheckpointManager, "_finalize_checkpoint", full)
  settings = {"train__num_steps": ENDLESS, "checkpoint__every_steps": 500}
  with pytest.raises(checkpoint.Unsaved, match="step 500 cannot be") as raised:
    train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert exits.exit_code(raised.value) == 74
  assert "before it" not in str(raised.value)
  # The next save, which would wait for this one, is of step 1000.
  assert 500 <= len(curve(tmp_path)) < 1000


def _fail(*args, **options):
  raise MemoryError("Unable to allocate 3 GiB")


@pytest.mark.parametrize("place", ["folder", "memory", "picture"])
def test_failed_validation_loses_no_step(
  place, reference, faces_dir, tmp_path, monkeypatch, caplog
):
  if place == "folder":
    (tmp_path / "figures").write_text("a file where a folder belongs")
  else:
    owner, name = {
      "memory": (bound, "mean_terms"),
      "picture": (summaries, "samples"),
    }[place]
    monkeypatch.setattr(owner, name, _fail)
  c = tiny_config(faces_dir)
  with pytest.raises((OSError, MemoryError)) as raised:
    train(c, str(tmp_path))
  assert exits.exit_code(raised.value) in (2, 71)
  words = exits.words(raised.value)
  assert "figures is a file where" in words or "3 GiB" in words
  assert "Step 20 is saved; what came after" in caplog.text
  assert restore.steps(tmp_path) == [20]
  # The same command makes up for what is missing.
  monkeypatch.undo()
  if place == "folder":
    (tmp_path / "figures").unlink()
  assert_trees_equal(train(c, str(tmp_path)), reference[1])
  assert (tmp_path / "figures" / "curves.png").exists()
