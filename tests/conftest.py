"""The strict environment of every test: 8 CPU devices, no silent ranks."""

import os
import shutil
import tempfile

import pytest

# Set before anything imports JAX, and handed on to the processes of tests.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Many tests compile the same small programs: once is enough for all of them,
# workers of pytest-xdist included.
_MAKER = "VAE_JAX_TESTS_SCRATCH" not in os.environ
_SCRATCH = os.environ.setdefault("VAE_JAX_TESTS_SCRATCH", tempfile.mkdtemp())
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_SCRATCH, "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


def pytest_unconfigure():
  if _MAKER:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def faces_dir():
  """Returns a TFDS data dir that holds `synthetic_faces/tiny`."""
  from vae_jax.data import synthetic_faces

  folder = os.path.join(_SCRATCH, "tfds")
  synthetic_faces.prepare(folder, config="tiny")
  return folder


@pytest.fixture(autouse=True)
def caches(monkeypatch):
  """Keeps what tests cache out of the home of who runs them."""
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", os.path.join(_SCRATCH, "caches"))


@pytest.fixture(scope="session")
def reference(tmp_path_factory, faces_dir):
  """Returns the workdir and the state of the plain tiny run."""
  from tests.helpers import tiny_config
  from vae_jax import train

  folder = tmp_path_factory.mktemp("reference")
  state = train.train(tiny_config(faces_dir), str(folder))
  return folder, state


@pytest.fixture(scope="session")
def root(tmp_path_factory):
  """`tiny`: 50 examples to train on, 10 of its own to test on."""
  from tests import tfds_helpers

  root = tmp_path_factory.mktemp("tfds")
  images = tfds_helpers.pictures(60)
  train, test = map(tfds_helpers.examples, (images[:50], images[50:]))
  tfds_helpers.write(root, {"train": train, "test": test})
  return root


@pytest.fixture
def offline(monkeypatch):
  """Neither network nor TensorFlow."""
  import socket

  from tests import tfds_helpers

  def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

  monkeypatch.setattr(socket, "getaddrinfo", refuse)
  monkeypatch.setattr(socket.socket, "connect", refuse)
  tfds_helpers.without_tensorflow(monkeypatch)
