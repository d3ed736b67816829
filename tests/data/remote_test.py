"""Data sets at a remote URL are copied to the host."""

from unittest import mock

import pytest

from tests.support.tiny import tiny_config
from vae_jax.data import datasets
from vae_jax.runtime import storage, transfer


def test_remote_data_are_copied_once_per_content(data, tmp_path, monkeypatch):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  download = mock.Mock(wraps=transfer.download)
  monkeypatch.setattr(transfer, "download", download)
  config = tiny_config(data)
  for _ in range(2):
    assert len(datasets.open_splits(config.data).train)
  assert download.call_count == 1
  (info,) = storage.path(data).glob("synthetic_faces/tiny/*/dataset_info.json")
  storage.write_bytes(info, info.read_bytes().replace(b"\n", b"\n "))
  datasets.open_splits(config.data)
  assert download.call_count == 2
  config.data.name = "mnist"
  with pytest.raises(datasets.DataError, match="copy FOLDER/mnist to s3://"):
    datasets.open_splits(config.data)
