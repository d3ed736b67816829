"""Fixtures of data."""

import pytest


@pytest.fixture
def own_index(tmp_path_factory, monkeypatch):
  """An empty folder for what is known of pictures."""
  folder = tmp_path_factory.mktemp("cache")
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(folder))
