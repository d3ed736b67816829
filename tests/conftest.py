"""The strict environment of every test: 8 CPU devices, no silent ranks."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def faces_dir(tmp_path_factory):
  """Returns a TFDS data dir that holds `synthetic_faces/tiny`."""
  from vae_jax.data import synthetic_faces

  folder = tmp_path_factory.getbasetemp().parent / "faces"
  synthetic_faces.prepare(folder, config="tiny")
  return folder


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch):
  """Keeps what tests cache out of the home of who runs them."""
  folder = tmp_path_factory.getbasetemp().parent / "caches"
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(folder))
