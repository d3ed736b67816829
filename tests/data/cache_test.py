import logging as std_logging
import multiprocessing
import pathlib
import pickle

import numpy as np
import pytest

from vae_jax.data import cache, datasets, errors


class ArraySource:
  """Random images in memory that counts how many were fetched."""

  def __init__(self, n=50, shape=(5, 4, 3), labels=(), seed=0):
    rng = np.random.default_rng(seed)
    self.images = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    self.labels = rng.integers(0, 9, (n, *labels)).astype(np.int32)
    self.image_shape = shape
    self.label_shape = labels
    self.fingerprint = {"dataset": "noise/1.0.0", "seed": seed}
    self.fetched = 0

  def __len__(self):
    return len(self.images)

  def fetch(self, indices):
    self.fetched += len(indices)
    return {"image": self.images[indices], "label": self.labels[indices]}


def entry(root):
  (folder,) = (p for p in root.iterdir() if p.is_dir())
  return folder


@pytest.mark.parametrize("labels", [(), (4,)])
def test_same_examples_as_the_source(tmp_path, labels):
  source = ArraySource(labels=labels)
  cached = cache.cached(source, str(tmp_path))
  assert isinstance(cached, datasets.Source)
  assert len(cached) == 50
  assert cached.image_shape == (5, 4, 3)
  assert cached.label_shape == labels
  indices = np.array([49, 0, 7, 7])
  batch = cached.fetch(indices)
  np.testing.assert_array_equal(batch["image"], source.images[indices])
  np.testing.assert_array_equal(batch["label"], source.labels[indices])
  assert batch["image"].dtype == np.uint8
  assert batch["label"].dtype == np.int32


def test_source_without_labels(tmp_path):
  source = ArraySource()
  source.label_shape = None
  source.fetch = lambda indices: {"image": source.images[indices]}
  cached = cache.cached(source, str(tmp_path))
  assert cached.label_shape is None
  assert list(cached.fetch(np.arange(3))) == ["image"]


def test_decodes_each_image_once_whatever_the_chunk(tmp_path, monkeypatch):
  monkeypatch.setattr(cache, "_CHUNK", 7 * 5 * 4 * 3)
  monkeypatch.setattr(cache, "_BLOCK", 64)
  source = ArraySource()
  cache.cached(source, str(tmp_path))
  cached = cache.cached(source, str(tmp_path))
  assert source.fetched == 50
  np.testing.assert_array_equal(
    cached.fetch(np.arange(50))["image"], source.images
  )


def test_other_content_gets_its_own_cache(tmp_path):
  one, other = ArraySource(seed=0), ArraySource(seed=1)
  cache.cached(one, str(tmp_path))
  cached = cache.cached(other, str(tmp_path))
  np.testing.assert_array_equal(
    cached.fetch(np.arange(50))["image"], other.images
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
  path.write_bytes(path.read_bytes()[: cache._BLOCK])


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
def test_damage_is_noticed_and_mended(tmp_path, monkeypatch, caplog, damage):
  monkeypatch.setattr(cache, "_BLOCK", 512)
  source = ArraySource()
  cache.cached(source, str(tmp_path))
  DAMAGE[damage](entry(tmp_path))
  with caplog.at_level(std_logging.WARNING, "absl"):
    cached = cache.cached(source, str(tmp_path))
  assert "damaged" in caplog.text
  assert source.fetched == 100
  batch = cached.fetch(np.arange(50))
  np.testing.assert_array_equal(batch["image"], source.images)
  np.testing.assert_array_equal(batch["label"], source.labels)


def test_interrupted_making_leaves_nothing(tmp_path):
  source = ArraySource()
  fetch = source.fetch

  def fail(indices):
    raise KeyboardInterrupt

  source.fetch = fail
  with pytest.raises(KeyboardInterrupt):
    cache.cached(source, str(tmp_path))
  assert not [p for p in tmp_path.iterdir() if p.is_dir()]
  source.fetch = fetch
  assert len(cache.cached(source, str(tmp_path))) == 50


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
  source = ArraySource()
  cache.cached(source, str(tmp_path))
  folder = entry(tmp_path)
  leftover = folder.with_name(folder.name + ".tmp-dead")
  folder.rename(leftover)
  cache.cached(source, str(tmp_path))
  assert folder.exists()
  assert not leftover.exists()


def test_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.DataError) as error:
    cache.cached(ArraySource(), str(tmp_path / "file" / "cache"))
  assert "--config.data.cache_dir" in str(error.value)
  assert "--config.data.cache=none" in str(error.value)


def test_full_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(
    cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})
  )
  with pytest.raises(errors.DataError, match="0.00 GB are free"):
    cache.cached(ArraySource(), str(tmp_path))


def test_default_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path / "here"))
  cache.cached(ArraySource())
  assert entry(tmp_path / "here" / "data").name.startswith("noise-1-0-0-")


def test_a_pickle_holds_the_name_and_not_the_images(tmp_path):
  cached = cache.cached(ArraySource(n=5000), str(tmp_path))
  pickled = pickle.dumps(cached)
  assert len(pickled) < 1000
  np.testing.assert_array_equal(
    pickle.loads(pickled).fetch(np.arange(9))["image"],
    cached.fetch(np.arange(9))["image"],
  )


def _make_in_process(root: str, barrier) -> None:
  source = ArraySource(n=2000)
  barrier.wait()
  cached = cache.cached(source, root)
  np.testing.assert_array_equal(
    cached.fetch(np.arange(2000))["image"], source.images
  )
  pathlib.Path(root, f"fetched-{source.fetched}").touch()


def test_two_processes_make_one_cache(tmp_path):
  context = multiprocessing.get_context("spawn")
  barrier = context.Barrier(2)
  processes = [
    context.Process(target=_make_in_process, args=(str(tmp_path), barrier))
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
