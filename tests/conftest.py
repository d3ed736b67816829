"""The strict environment of every test: 8 CPU devices, no silent ranks."""

import os
import re
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
# Compiling takes most of the time of these tests: half of it, to slower code.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Nothing goes to the home of who runs the tests.
os.environ["VAE_JAX_CACHE_DIR"] = os.path.join(_SCRATCH, "caches")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


# Files of minutes begin first, so that no worker is left alone with one.
_LONG = (
  *("soak_kills", "soak_stops", "soak_saves", "pod_faults", "pod", "configs"),
  *("measure", "combinations", "train", "resume", "own_images", "editor"),
  "every_loss",
)


def pytest_unconfigure():
  if _MAKER:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def faces_dir():
  """Returns a TFDS data dir that holds `synthetic_faces/tiny`."""
  from vae_jax.data.synthetic_faces import dataset

  folder = os.path.join(_SCRATCH, "tfds")
  dataset.prepare(folder, config="tiny")
  return folder


@pytest.fixture
def use_devices(monkeypatch):
  """Returns a function that leaves the first few devices alone."""
  import jax

  from vae_jax.runtime import devices

  def use(count):
    chosen = jax.devices()[:count]
    monkeypatch.setattr(devices, "devices", lambda: chosen)

  return use


@pytest.fixture(scope="session")
def reference(tmp_path_factory, faces_dir):
  """Returns a workdir and the state of the plain tiny run."""
  from tests.support import once
  from tests.support.tiny import tiny_config
  from vae_jax.train import train
  from vae_jax.training import restore

  made = once.folder(
    "reference", lambda folder: train(tiny_config(faces_dir), str(folder))
  )
  # Tests of this worker may write to it.
  folder = tmp_path_factory.mktemp("reference")
  shutil.copytree(made, folder, dirs_exist_ok=True)
  return folder, restore.load_state(folder)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
  """`tiny`: 50 examples to train on, 10 of its own to test on."""
  from tests.support import tfds

  root = tmp_path_factory.mktemp("tfds")
  images = tfds.pictures(60)
  train, test = map(tfds.examples, (images[:50], images[50:]))
  tfds.write(root, {"train": train, "test": test})
  return root


@pytest.fixture
def offline(monkeypatch):
  """Neither network nor TensorFlow."""
  import socket

  from tests.support import tfds

  def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

  monkeypatch.setattr(socket, "getaddrinfo", refuse)
  monkeypatch.setattr(socket.socket, "connect", refuse)
  tfds.without_tensorflow(monkeypatch)


def pytest_collection_modifyitems(items):
  """Orders the files, and ignores the sessions of stores' clients, which close
  when collected."""
  place = {f"{name}_test": i for i, name in enumerate(_LONG)}
  items.sort(key=lambda item: place.get(item.path.stem, len(place)))
  categories = "ResourceWarning", "pytest.PytestUnraisableExceptionWarning"
  ignored = [pytest.mark.filterwarnings(f"ignore::{c}") for c in categories]
  for item in items:
    if {"s3", "gs", "address", "any_address"} & set(item.fixturenames):
      for mark in ignored:
        item.add_marker(mark)


# For the session, because the clients keep the address of their store.
@pytest.fixture(scope="session")
def s3():
  """Starts moto, a stand-in for S3, and names it in the environment."""
  pytest.importorskip("s3fs")
  moto = pytest.importorskip("moto.server")
  from vae_jax.runtime import storage

  server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
  server.start()
  host, port = server.get_host_and_port()
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "someone")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    _quicken_leases(patch)
    storage.file_system(storage.path("s3://bucket/x")).mkdir("bucket")
    yield
  server.stop()


@pytest.fixture(scope="session")
def gs():
  """Starts a stand-in for Google's store, and names it in the environment."""
  with pytest.MonkeyPatch.context() as patch:
    # Read at the import; the stand-in has no hierarchical buckets.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs")
    import fsspec

    emulator = pytest.importorskip("gcp_storage_emulator.server")
    server = emulator.create_server(
      "127.0.0.1", 0, in_memory=True, default_bucket="bucket"
    )
    server.start()
    port = server._api._httpd.server_port
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
    _quicken_leases(patch)
    yield
  server.stop()


def _quicken_leases(patch):
  from vae_jax.runtime import locks

  patch.setattr(locks, "TIMES", locks.LeaseTimes(0.1, 0.5, 0.05, 0.05))


def _address(scheme, request):
  from vae_jax.runtime import storage

  request.getfixturevalue(scheme)
  name = re.sub(r"\W", "-", request.node.name)
  return storage.path(f"{scheme}://bucket/{name}")


@pytest.fixture
def address(request):
  """Returns an address of S3 for one test."""
  return _address("s3", request)


@pytest.fixture(params=["s3", "gs"])
def any_address(request):
  """Returns an address of each store for one test."""
  return _address(request.param, request)


@pytest.fixture(scope="module")
def data(s3, faces_dir):
  """Returns an address of prepared data."""
  from vae_jax.runtime import storage

  address = "s3://bucket/tfds"
  system = storage.file_system(storage.path(address))
  system.put(f"{faces_dir}/synthetic_faces", f"{address}/", recursive=True)
  return address
