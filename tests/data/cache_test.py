"""The cache: equal examples, damage noticed, one writer."""

import logging as std_logging
import multiprocessing
import pathlib
import pickle

import numpy as np
import pytest

from tests.support import tfds
from vae_jax.data import cache, datasets, errors
from vae_jax.runtime import storage


def noise(n=50, labels=(), seed=0):
  """Returns random images and labels that count how often they are fetched."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (n, 5, 4, 3)).astype(np.uint8)
  label = rng.integers(0, 9, (n, *labels)).astype(np.int32)
  return tfds.ArraySource(image, label)


def entry(root):
  (folder,) = (p for p in root.iterdir() if p.is_dir())
  return folder


@pytest.mark.parametrize("labels", [(), (4,)])
def test_cache_has_the_examples_of_the_source(tmp_path, labels):
  source = noise(labels=labels)
  cached = cache.cached(source, str(tmp_path))
  assert isinstance(cached, datasets.Source)
  assert len(cached) == 50
  assert cached.image_shape == (5, 4, 3)
  assert cached.label_shape == labels
  indices = np.array([49, 0, 7, 7])
  batch = cached.fetch(indices)
  np.testing.assert_array_equal(batch["image"], source.image[indices])
  np.testing.assert_array_equal(batch["label"], source.label[indices])
  assert batch["image"].dtype == np.uint8
  assert batch["label"].dtype == np.int32


def test_cache_of_unlabeled_source_has_no_labels(tmp_path):
  source = tfds.ArraySource(noise().image)
  cached = cache.cached(source, str(tmp_path))
  assert cached.label_shape is None
  assert list(cached.fetch(np.arange(3))) == ["image"]


def test_each_image_is_decoded_once_for_any_chunk(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "CHUNK", 7 * 5 * 4 * 3)
  monkeypatch.setattr(cache, "BLOCK", 64)
  source = noise()
  cache.cached(source, str(tmp_path))
  cached = cache.cached(source, str(tmp_path))
  assert source.fetched == 50
  np.testing.assert_array_equal(
    cached.fetch(np.arange(50))["image"], source.image
  )


def test_other_content_has_another_cache(tmp_path):
  one, other = noise(seed=0), noise(seed=1)
  cache.cached(one, str(tmp_path))
  cached = cache.cached(other, str(tmp_path))
  np.testing.assert_array_equal(
    cached.fetch(np.arange(50))["image"], other.image
  )
  assert sum(p.is_dir() for p in tmp_path.iterdir()) == 2


def flip_a_bit(folder):
  path = folder / "image.npy"
  content = bytearray(path.read_bytes())
  content[-100] ^= 1
  path.write_bytes(content)


def truncate(folder):
  path = folder / "image.npy"
  path.write_bytes(path.read_bytes()[:-60])


def cut_off_at_a_block(folder):
  path = folder / "image.npy"
  path.write_bytes(path.read_bytes()[: cache.BLOCK])


DAMAGE = {
  "bit": flip_a_bit,
  "truncated": truncate,
  "block": cut_off_at_a_block,
  "labels": lambda folder: (folder / "label.npy").unlink(),
  "empty": lambda folder: (folder / "image.npy").write_bytes(b""),
  "no meta": lambda folder: (folder / "meta.json").unlink(),
  "bad meta": lambda folder: (folder / "meta.json").write_text("[1"),
  "other meta": lambda folder: (folder / "meta.json").write_text("[1]"),
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
  batch = cached.fetch(np.arange(50))
  np.testing.assert_array_equal(batch["image"], source.image)
  np.testing.assert_array_equal(batch["label"], source.label)


def test_interrupted_writing_leaves_nothing(tmp_path):
  source = noise()
  fetch = source.fetch

  def fail(indices):
    raise KeyboardInterrupt

  source.fetch = fail
  with pytest.raises(KeyboardInterrupt):
    cache.cached(source, str(tmp_path))
  assert not [p for p in tmp_path.iterdir() if p.is_dir()]
  source.fetch = fetch
  assert len(cache.cached(source, str(tmp_path))) == 50


def test_stale_files_of_a_killed_process_are_removed(tmp_path):
  source = noise()
  cache.cached(source, str(tmp_path))
  folder = entry(tmp_path)
  leftover = folder.with_name(folder.name + ".tmp-dead")
  folder.rename(leftover)
  cache.cached(source, str(tmp_path))
  assert folder.exists()
  assert not leftover.exists()


def test_unwritable_folder_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.DataError) as error:
    cache.cached(noise(), str(tmp_path / "file" / "cache"))
  assert "--config.data.cache_dir" in str(error.value)
  assert "--config.data.cache=none" in str(error.value)


def test_full_disk_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(
    cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})
  )
  with pytest.raises(errors.DataError, match="0.00 GB are free"):
    cache.cached(noise(), str(tmp_path))


def test_default_folder_follows_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / "here"))
  cache.cached(noise())
  assert entry(tmp_path / "here" / "data").name.startswith("noise-1-0-0-")


def test_pickle_contains_no_images(tmp_path):
  cached = cache.cached(noise(n=5000), str(tmp_path))
  pickled = pickle.dumps(cached)
  assert len(pickled) < 1000
  np.testing.assert_array_equal(
    pickle.loads(pickled).fetch(np.arange(9))["image"],
    cached.fetch(np.arange(9))["image"],
  )


def _write_in_process(root: str, barrier) -> None:
  source = noise(n=2000)
  barrier.wait()
  cached = cache.cached(source, root)
  np.testing.assert_array_equal(
    cached.fetch(np.arange(2000))["image"], source.image
  )
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
  assert (tmp_path / "fetched-2000").exists()
  assert (tmp_path / "fetched-0").exists()
  assert entry(tmp_path)


def test_hosts_share_a_remote_cache(any_address, tmp_path, monkeypatch):
  def on_host(name, source):
    monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / name))
    return cache.cached(source, str(any_address))

  one, two, three, four = (noise() for _ in range(4))
  on_host("one", one)
  copied = on_host("two", two)
  assert (one.fetched, two.fetched) == (50, 0)
  np.testing.assert_array_equal(copied.fetch(np.arange(50))["image"], one.image)
  # The copy was checked once and is not checked at each start.
  with monkeypatch.context() as patch:
    patch.setattr(
      cache, "_checksums", lambda path: pytest.fail("checked again")
    )
    on_host("two", two)
  # A damaged cache is detected and replaced.
  (image,) = any_address.glob("*/image.npy")
  content = bytearray(image.read_bytes())
  content[-1] ^= 1
  storage.write_bytes(image, bytes(content))
  on_host("three", three)
  on_host("four", four)
  assert (three.fetched, four.fetched) == (50, 0)
