"""Downloads are complete or leave nothing."""

from unittest import mock

import pytest

from vae_jax.runtime import storage, transfer


def test_failed_download_leaves_nothing(any_address, tmp_path, monkeypatch):
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


def test_tag_of_a_file_changes_with_its_content(monkeypatch):
  def tag(**info):
    store = mock.Mock()
    store._strip_protocol.return_value = "bucket/data"
    file = {"type": "file", "size": 3, **info}
    store.find.return_value = {"bucket/data/a": file}
    monkeypatch.setattr(storage, "file_system", lambda path: store)
    (entry,) = transfer.listing(storage.pathlib.Path("any")).values()
    return entry["tag"]

  # Google's, before and after a change of the metadata.
  noted = {"crc32c": "x", "generation": "1", "etag": "CAE="}
  assert tag(md5Hash="m", **noted) == tag(md5Hash="m", **noted | {"etag": "C"})
  assert tag(**noted) == tag(**noted | {"etag": "CAI="})
  assert tag(**noted) != tag(**noted | {"crc32c": "y"})
  assert tag(generation="1", etag="a") != tag(generation="2", etag="a")
  # S3's, and that of a folder.
  assert tag(ETag="a") != tag(ETag="b")
  assert tag(mtime=1.0) != tag(mtime=2.0)
