"""Data, cache and run in an object store: a stand-in that answers as S3."""

import io
import struct

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from tests.data.cache_test import noise
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.data import cache, datasets
from vae_jax.runtime import storage, transfer
from vae_jax.training import restore
from vae_jax.training import workdir as workdir_lib
from vae_jax.training import writer as writer_lib


def test_what_is_written_is_read_and_listed_at_once(any_address):
  storage.write_json(any_address / "a" / "x.json", {"a": 1})
  assert (any_address / "a" / "x.json").exists()
  assert [p.name for p in (any_address / "a").glob("*.json")] == ["x.json"]
  # As another machine does.
  other = storage.file_system(any_address).__class__(skip_instance_cache=True)
  other.pipe_file(str(any_address / "a" / "y.json"), b"{}")
  assert sorted(p.name for p in (any_address / "a").glob("*.json")) == [
    "x.json",
    "y.json",
  ]
  (any_address / "a" / "y.json").unlink(missing_ok=True)
  (any_address / "a" / "y.json").unlink(missing_ok=True)
  assert not (any_address / "a" / "y.json").exists()
  storage.write_arrays(any_address / "b.npz", v=np.arange(3))
  np.testing.assert_array_equal(
    storage.read_arrays(any_address / "b.npz")["v"], np.arange(3)
  )


def test_rows_and_events_are_put_whole(any_address):
  writer = writer_lib.WorkdirWriter(str(any_address), step=0)
  for step in (1, 2, 3):
    writer.row(step, "train", {"loss": float(step)})
  assert writer_lib.read_rows(str(any_address)) == []
  writer.flush()
  assert [r["step"] for r in writer_lib.read_rows(str(any_address))] == [
    1,
    2,
    3,
  ]
  writer.row(4, "train", {"loss": 4.0})
  writer.close()
  assert len(writer_lib.read_rows(str(any_address))) == 4
  (events,) = (any_address / "tensorboard").glob("*tfevents*")
  assert b"train/loss" in events.read_bytes()
  writer = writer_lib.WorkdirWriter(str(any_address), step=2)
  writer.row(3, "train", {"loss": 30.0})
  writer.close()
  rows = writer_lib.read_rows(str(any_address))
  assert [(r["step"], r["loss"]) for r in rows] == [(1, 1), (2, 2), (3, 30)]
  assert len(list((any_address / "tensorboard").glob("*"))) == 2


def _scalars(folder):
  """Returns the steps of each file of events."""
  steps = []
  for path in folder.glob("*"):
    content, found = io.BytesIO(path.read_bytes()), []
    while header := content.read(12):
      event = event_pb2.Event.FromString(
        content.read(struct.unpack("<Q", header[:8])[0])
      )
      content.read(4)
      found += [event.step] * len(event.summary.value)
    steps.append(found)
  return sorted(steps)


def test_events_are_not_put_again_and_again(address):
  def write(folder, **options):
    writer = writer_lib.WorkdirWriter(str(folder), step=0, **options)
    for step in range(4):
      writer.row(step, "train", {"loss": float(step)})
      if step % 2:
        writer.flush()
    writer.close()
    return _scalars(folder / "tensorboard")

  assert write(address / "one") == [[0, 1, 2, 3]]
  assert write(address / "two", max_event_bytes=100)[1:] == [[0, 1], [2, 3]]


def test_a_workdir_has_one_owner(any_address, faces_dir):
  config = tiny_config(faces_dir)
  with workdir_lib.claim(str(any_address), config):
    assert (any_address / ".owner").exists()
    with pytest.raises(config_lib.ConfigError, match="Another process is"):
      with workdir_lib.claim(str(any_address), config):
        pass
    assert (any_address / ".owner").exists()
  assert not (any_address / ".owner").exists()
  with workdir_lib.claim(str(any_address), config):
    pass


def test_what_cannot_be_reached_is_said_in_one_sentence(s3, faces_dir):
  config = tiny_config(faces_dir)
  with pytest.raises(config_lib.ConfigError, match="--workdir=s3://nobody/x"):
    with workdir_lib.claim("s3://nobody/x", config):
      pass
  with pytest.raises(config_lib.ConfigError, match="There is no run in"):
    restore.load_config("s3://bucket/no/run")


def test_a_cache_is_made_once_for_all_hosts(any_address, tmp_path, monkeypatch):
  def on_host(name, source):
    monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / name))
    return cache.cached(source, str(any_address))

  one, two, three, four = (noise() for _ in range(4))
  on_host("one", one)
  copied = on_host("two", two)
  assert (one.fetched, two.fetched) == (50, 0)
  np.testing.assert_array_equal(copied.fetch(np.arange(50))["image"], one.image)
  # The copy has been checked: it is not at every start.
  with monkeypatch.context() as patch:
    patch.setattr(cache, "_checksums", lambda path: pytest.fail("read again"))
    on_host("two", two)
  # A damaged one is found out, and replaced.
  (image,) = any_address.glob("*/image.npy")
  content = bytearray(image.read_bytes())
  content[-1] ^= 1
  storage.write_bytes(image, bytes(content))
  on_host("three", three)
  on_host("four", four)
  assert (three.fetched, four.fetched) == (50, 0)


def test_a_transfer_that_fails_leaves_nothing(
  any_address, tmp_path, monkeypatch
):
  for name in ("a", "b/c"):
    storage.write_bytes(any_address / name, name.encode() * 9)
  system = storage.file_system(any_address)
  whole = system.get_file

  def cut(source, target, **options):
    whole(source, target, **options)
    if source.endswith("c"):
      with open(target, "r+b") as file:
        file.truncate(5)

  with monkeypatch.context() as patch:
    patch.setattr(system, "get_file", cut)
    with pytest.raises(storage.Unreachable, match="b/c is incomplete here"):
      transfer.download(any_address, tmp_path / "copy")
  assert list(tmp_path.iterdir()) == []
  (tmp_path / "copy.tmp-dead").mkdir()
  transfer.download(any_address, tmp_path / "copy")
  assert (tmp_path / "copy" / "b" / "c").read_bytes() == b"b/c" * 9
  assert [p.name for p in tmp_path.iterdir()] == ["copy"]


def test_data_is_copied_once_and_again_when_it_has_changed(
  data, tmp_path, monkeypatch
):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  calls = []
  original = transfer.download

  def download(*args):
    calls.append(args)
    return original(*args)

  monkeypatch.setattr(transfer, "download", download)
  config = tiny_config(data)
  for _ in range(2):
    assert len(datasets.open_splits(config.data).train)
  assert len(calls) == 1
  (info,) = storage.path(data).glob("synthetic_faces/tiny/*/dataset_info.json")
  storage.write_bytes(info, info.read_bytes().replace(b"\n", b"\n "))
  datasets.open_splits(config.data)
  assert len(calls) == 2
  config.data.name = "mnist"
  with pytest.raises(datasets.DataError, match="copy FOLDER/mnist to s3://"):
    datasets.open_splits(config.data)
