"""The cache: equal examples, damage noticed, one writer."""

import logging as std_logging
import multiprocessing
import pathlib
import pickle
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support import tfds
from vae_jax.data import cache, datasets, errors
from vae_jax.runtime import storage


def noise(n=50, labels=(), seed=0):
  """Returns random images and labels that count how often they are fetched."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (n, 5, 4, 3)).astype(np.uint8)
  label = rng.integers(0, 9, (n, *(labels or ()))).astype(np.int32)
  return tfds.ArraySource(image, None if labels is None else label)


def entry(root):
  (folder,) = (p for p in root.iterdir() if p.is_dir())
  return folder


def assert_holds(cached, source):
  """Checks that a cache has the examples of a source, in any order."""
  for indices in (np.arange(50), np.array([49, 0, 7, 7])):
    batch = cached.fetch(indices)
    assert_array_equal(batch["image"], source.image[indices])
    assert batch["image"].dtype == np.uint8
    assert ("label" in batch) == (source.label is not None)
    if source.label is not None:
      assert_array_equal(batch["label"], source.label[indices])
      assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("labels", [(), (4,), None])
def test_cache_has_the_examples_of_the_source(tmp_path, monkeypatch, labels):
  # Each image is decoded once for any size of chunks and blocks.
  monkeypatch.setattr(cache, "CHUNK", 7 * 5 * 4 * 3)
  monkeypatch.setattr(cache, "BLOCK", 64)
  source = noise(labels=labels)
  cache.cached(source, str(tmp_path))
  cached = cache.cached(source, str(tmp_path))
  assert source.fetched == 50
  assert isinstance(cached, datasets.Source)
  assert len(cached) == 50
  assert cached.image_shape == (5, 4, 3)
  assert cached.label_shape == labels
  assert_holds(cached, source)
  # Other content has another cache.
  other = noise(seed=1)
  assert_holds(cache.cached(other, str(tmp_path)), other)
  assert sum(p.is_dir() for p in tmp_path.iterdir()) == 2


def changed(name, change):
  """Returns a function that changes the bytes of a file in a folder."""

  def damage(folder):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))

  return damage


def flipped(content):
  return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


DAMAGE = {
  "bit": changed("image.npy", flipped),
  "truncated": changed("image.npy", lambda c: c[:-60]),
  "block": changed("image.npy", lambda c: c[: cache.BLOCK]),
  "labels": lambda folder: (folder / "label.npy").unlink(),
  "empty": changed("image.npy", lambda c: b""),
  "no meta": lambda folder: (folder / "meta.json").unlink(),
  "bad meta": changed("meta.json", lambda c: b"[1"),
  "other meta": changed("meta.json", lambda c: b"[1]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_written_again(tmp_path, monkeypatch, caplog, damage):
  monkeypatch.setattr(cache, "BLOCK", 512)
  source = noise()
  cache.cached(source, str(tmp_path))
  DAMAGE[damage](entry(tmp_path))
  with caplog.at_level(std_logging.WARNING, "absl"):
    cached = cache.cached(source, str(tmp_path))
  assert "damaged" in caplog.text
  assert source.fetched == 100
  assert_holds(cached, source)


def test_interrupted_writing_leaves_nothing(tmp_path):
  source = noise()
  with mock.patch.object(source, "fetch", side_effect=KeyboardInterrupt):
    with pytest.raises(KeyboardInterrupt):
      cache.cached(source, str(tmp_path))
  assert not [p for p in tmp_path.iterdir() if p.is_dir()]
  assert len(cache.cached(source, str(tmp_path))) == 50
  # What a killed process leaves is removed.
  folder = entry(tmp_path)
  leftover = folder.with_name(folder.name + ".tmp-dead")
  folder.rename(leftover)
  cache.cached(source, str(tmp_path))
  assert folder.exists()
  assert not leftover.exists()


def test_unwritable_folder_and_full_disk_are_refused(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.DataError) as error:
    cache.cached(noise(), str(tmp_path / "file" / "cache"))
  assert "--config.data.cache_dir" in str(error.value)
  assert "--config.data.cache=none" in str(error.value)
  usage = mock.Mock(free=10)
  monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage)
  with pytest.raises(errors.DataError, match="0.00 GB are free"):
    cache.cached(noise(), str(tmp_path))


def test_default_folder_follows_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / "here"))
  source = noise(n=5000)
  pickled = pickle.dumps(cache.cached(source))
  assert entry(tmp_path / "here" / "data").name.startswith("noise-1-0-0-")
  # A pickle contains no images.
  assert len(pickled) < 1000
  assert_holds(pickle.loads(pickled), source)


def _write_in_process(root: str, barrier) -> None:
  source = noise(n=2000)
  barrier.wait()
  assert_holds(cache.cached(source, root), source)
  pathlib.Path(root, f"fetched-{source.fetched}").touch()


def test_two_processes_write_one_cache(tmp_path):
  context = multiprocessing.get_context("spawn")
  barrier = context.Barrier(2)
  processes = [
    context.Process(target=_write_in_process, args=(str(tmp_path), barrier))
    for _ in range(2)
  ]
  for process in processes:
    process.start()
  for process in processes:
    process.join(60)
    assert process.exitcode == 0
  # One decoded everything, the other nothing.
  assert all((tmp_path / f"fetched-{n}").exists() for n in (2000, 0))
  assert entry(tmp_path)


def test_hosts_share_a_remote_cache(any_address, tmp_path, monkeypatch):
  def on_host(name, source):
    monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / name))
    return cache.cached(source, str(any_address))

  one, two, three, four = (noise() for _ in range(4))
  on_host("one", one)
  copied = on_host("two", two)
  assert (one.fetched, two.fetched) == (50, 0)
  assert_holds(copied, one)
  # The copy was checked once and is not checked at each start.
  with mock.patch.object(cache, "_checksums", side_effect=AssertionError):
    on_host("two", two)
  # A damaged cache is detected and replaced.
  (image,) = any_address.glob("*/image.npy")
  storage.write_bytes(image, flipped(image.read_bytes()))
  on_host("three", three)
  on_host("four", four)
  assert (three.fetched, four.fetched) == (50, 0)
