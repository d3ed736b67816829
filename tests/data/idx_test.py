"""MNIST and Fashion-MNIST from their official files, or from damaged ones."""

import gzip
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal

from tests.support import tfds as support
from tests.support.pictures import noise
from vae_jax.data import idx

pytestmark = pytest.mark.usefixtures("offline")

TRAIN, TRAIN_LABELS, _ = idx.FILES["train"]
TEST, TEST_LABELS, _ = idx.FILES["test"]


def packed(values, magic=None, shape=None):
  """Returns an idx file, byte by byte as its definition says."""
  shape = values.shape if shape is None else shape
  magic = bytes([0, 0, 8, values.ndim]) if magic is None else magic
  sizes = b"".join(struct.pack(">I", size) for size in shape)
  return gzip.compress(magic + sizes + values.tobytes(), 1)


@pytest.fixture
def official(tmp_path):
  """Returns the folder of small official files, and their arrays."""
  arrays = {
    TRAIN: noise(24, 28, 28),
    TRAIN_LABELS: (np.arange(24) % 10).astype(np.uint8),
    TEST: noise(6, 28, 28, seed=1),
    TEST_LABELS: np.arange(6, dtype=np.uint8),
  }
  for name, values in arrays.items():
    (tmp_path / f"{name}.gz").write_bytes(packed(values))
  (tmp_path / "tfds").mkdir()
  return tmp_path, arrays


def opened(folder, name="mnist", open_data=support.opened, **changes):
  return open_data(folder / "tfds", name, manual_dir=str(folder), **changes)


@pytest.mark.parametrize("name", idx.NAMES)
def test_official_files_become_the_data_set(name, official, caplog):
  folder, arrays = official
  splits = opened(folder, name)
  assert splits.name == f"{name}:3.0.1"
  assert splits.image_shape == (28, 28, 1)
  if name == "fashion_mnist":
    assert splits.label_names[9] == "Ankle boot"
  assert "has 24 images; the official file has 60,000" in caplog.text
  # In the order of the writer of tensorflow-datasets, given the same keys.
  features = tfds.builder_cls(name)(data_dir=str(folder / "x")).info.features
  rows = {
    split: [
      {"image": support.png(image[..., None]), "label": int(label)}
      for image, label in zip(*(arrays[f] for f in files), strict=True)
    ]
    for split, (*files, _) in idx.FILES.items()
  }
  support.write(folder / "theirs", rows, dict(features.items()), name=name)
  theirs = support.opened(folder / "theirs", name)
  for split in ("train", "validation", "test"):
    ours, other = (support.content(getattr(s, split)) for s in (splits, theirs))
    for key in ("image", "label"):
      assert_array_equal(ours[key], other[key])
  found = {x.tobytes(): y for x, y in zip(*ours.values(), strict=True)}
  expected = zip(arrays[TEST], arrays[TEST_LABELS], strict=True)
  assert found == {x.tobytes(): y for x, y in expected}


def _unpack(folder):
  for path in folder.glob("*.gz"):
    name = path.name.removesuffix(".gz").replace("-idx", ".idx")
    (folder / name).write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def test_files_may_be_unpacked(official):
  folder, arrays = official
  _unpack(folder)
  read = idx._read_all(folder)
  assert_array_equal(read["train"][0], arrays[TRAIN])
  assert_array_equal(read["test"][1], arrays[TEST_LABELS])


@pytest.mark.parametrize(
  "file, content, message",
  [
    (TRAIN, None, "lacks train-images-idx3-ubyte.gz; put train-images"),
    (TRAIN, b"<html>", "cannot be unpacked (Not a gzipped file"),
    (TRAIN, packed(noise(9, 28, 28))[:-400], "cannot be unpacked (Compressed"),
    (TRAIN, gzip.compress(b"\0\0\x08"), "is too short; an idx file of 3 axes"),
    (
      TRAIN,
      packed(noise(9)),
      "starts with 2049; an idx file of 3 axes of uint",
    ),
    (TRAIN_LABELS, packed(noise(9), b"\0\0\x0d\1"), "magic number 2049: it is"),
    (TRAIN, packed(noise(9, 28, 28), shape=(10, 28, 28)), "has 7,056 values, "),
    (TEST, packed(noise(5, 28, 28)), "has 5 images, but "),
    (TEST, packed(noise(6, 32, 32)), "images of [32, 32] pixels; they must be"),
    (
      TEST_LABELS,
      packed(np.full(6, 10, np.uint8)),
      "label 0 is 10; labels are",
    ),
  ],
)
def test_damaged_file_is_named_on_one_line(official, file, content, message):
  folder, _ = official
  path = folder / f"{file}.gz"
  path.unlink() if content is None else path.write_bytes(content)
  text = opened(folder, open_data=support.fails)
  assert message in text and file.partition("-idx")[0] in text
  assert not list((folder / "tfds").glob("mnist/*"))
