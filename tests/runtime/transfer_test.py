"""Downloads are complete or leave nothing."""

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
