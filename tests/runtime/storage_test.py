"""Atomic writes to folders and addresses."""

import io
import json
import math
import os

import numpy as np
import pytest

from vae_jax import config as config_lib
from vae_jax.runtime import storage


def test_json_is_written_completely_or_not_at_all(tmp_path):
  path = tmp_path / "eval" / "test.json"
  storage.write_json(path, {"a": 1.5})
  assert json.loads(path.read_text()) == {"a": 1.5}
  with pytest.raises(ValueError):
    storage.write_json(path, {"a": math.nan})
  assert json.loads(path.read_text()) == {"a": 1.5}
  assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
  path = tmp_path / "file"
  storage.write_bytes(path, b"old")

  def fail(self, target):
    raise OSError("no")

  monkeypatch.setattr(type(path), "replace", fail)
  with pytest.raises(OSError):
    storage.write_bytes(path, b"new")
  assert path.read_bytes() == b"old"
  assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
  path = tmp_path / "file"
  storage.write_bytes(path, b"old")
  on_disk = []

  def fsync(number):
    assert path.read_bytes() == b"old"
    (partial,) = tmp_path.glob(".file.*")
    assert os.path.samestat(os.fstat(number), partial.stat())
    on_disk.append(partial.read_bytes())

  monkeypatch.setattr(storage.os, "fsync", fsync)
  storage.write_bytes(path, b"new")
  assert on_disk == [b"new"] and path.read_bytes() == b"new"


def test_equal_arrays_have_equal_bytes(tmp_path):
  arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(["x", "yz"])}
  for name in ("one.npz", "two.npz"):
    storage.write_arrays(tmp_path / name, **arrays)
  one, two = ((tmp_path / n).read_bytes() for n in ("one.npz", "two.npz"))
  assert one == two
  read = storage.read_arrays(tmp_path / "one.npz")
  assert list(read) == ["a", "b"]
  np.testing.assert_array_equal(read["a"], arrays["a"])


@pytest.mark.parametrize("address", ["ftp://host/runs", "s3://", "gs:///"])
def test_unknown_addresses_are_refused(address):
  with pytest.raises(config_lib.ConfigError, match="gs://BUCKET") as error:
    storage.path(address)
  assert address in str(error.value)


def test_missing_package_is_named(monkeypatch):
  def missing(name):
    raise ImportError(name)

  monkeypatch.setattr(storage.importlib, "import_module", missing)
  with pytest.raises(config_lib.ConfigError, match="pip install s3fs"):
    storage.path("s3://bucket/runs")


def test_remote_files_are_listed_as_soon_as_they_are_written(any_address):
  folder = any_address / "a"
  storage.write_json(folder / "x.json", {"a": 1})
  assert (folder / "x.json").exists()
  assert [p.name for p in folder.glob("*.json")] == ["x.json"]
  # By another machine.
  other = storage.file_system(any_address).__class__(skip_instance_cache=True)
  other.pipe_file(str(folder / "y.json"), b"{}")
  names = sorted(p.name for p in folder.glob("*.json"))
  assert names == ["x.json", "y.json"]
  for _ in range(2):
    (folder / "y.json").unlink(missing_ok=True)
  assert not (folder / "y.json").exists()
  storage.write_arrays(any_address / "b.npz", v=np.arange(3))
  np.testing.assert_array_equal(
    storage.read_arrays(any_address / "b.npz")["v"], np.arange(3)
  )


def test_damaged_and_foreign_files_are_named(tmp_path):
  path = tmp_path / "x.npz"

  def read():
    with storage.parsing(path, "make it again"):
      return storage.read_arrays(path)["a"]

  pickles = io.BytesIO()
  np.savez(pickles, a=np.array([{}], dtype=object))
  arrays = io.BytesIO()
  np.savez(arrays, a=np.arange(3), b=np.arange(3))
  for content, words in (
    (pickles.getvalue(), "it holds a pickle, which is never opened"),
    (b"text", "it holds a pickle, which is never opened"),
    (b"", "EOFError: No data left in file"),
    (arrays.getvalue()[:-30], "BadZipFile: File is not a zip file"),
  ):
    path.write_bytes(content)
    with pytest.raises(config_lib.ConfigError) as caught:
      read()
    start = f"{path} is damaged, or of another kind ({words}"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith("; make it again.")
  path.write_bytes(arrays.getvalue())
  assert read().sum() == 3
  path.unlink()
  with pytest.raises(FileNotFoundError):
    read()


def test_an_address_with_one_slash_is_refused():
  with pytest.raises(
    config_lib.ConfigError, match="s3:/bucket/x is no address: it needs"
  ):
    storage.path("s3:/bucket/x")
  assert str(storage.path("runs/a:/b")) == "runs/a:/b"
