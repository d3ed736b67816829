"""Prepared data sets: images, labels, splits and fingerprints."""

import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal

from tests.support.tfds import (
  COLORS,
  content,
  examples,
  fails,
  opened,
  pictures,
  png,
  positions,
  write,
)
from vae_jax.data import datasets

pytestmark = pytest.mark.usefixtures("offline")


# Examples.


def test_images_and_class_ids_are_those_written(root):
  splits = opened(root)
  assert isinstance(splits.train, datasets.Source)
  assert splits.name == "tiny:1.0.0"
  assert splits.image_shape == splits.test.image_shape == (8, 6, 3)
  assert splits.label_names == COLORS
  assert splits.train.label_shape == ()
  for source in (splits.test, pickle.loads(pickle.dumps(splits.test))):
    batch = content(source)
    order = batch["image"][:, 0, 0, 0].astype(int)
    assert_array_equal(batch["image"], pictures(60)[order])
    assert_array_equal(batch["label"], order % 3)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("num_threads", [1, 2, 7])
def test_number_of_threads_changes_nothing(root, num_threads):
  one = opened(root, num_threads=1).train
  many = opened(root, num_threads=num_threads).train
  # Enough for several threads.
  indices = np.tile([3, 39, 0, 3, 17], 30)
  for key, values in content(one).items():
    assert_array_equal(many.fetch(indices)[key], values[indices])
  assert len(many.fetch(indices[:0])["image"]) == 0
  with pytest.raises(ValueError, match="num_records"):
    many.fetch(np.array([40]))


# Splits.


@pytest.mark.parametrize(
  "sizes, expected",
  [
    ({"train": 50, "test": 10}, ("train[:40]", "train[40:]", "test")),
    ({"train": 50}, ("train[:35]", "train[35:45]", "train[45:]")),
    ({"train": 5, "validation": 2, "test": 2}, ("train", "validation", "test")),
    ({"train": 5, "valid": 2, "test": 2}, ("train", "valid", "test")),
    (
      {"train": 60_000, "test": 10_000},
      ("train[:50000]", "train[50000:]", "test"),
    ),
    (
      {"train": 737_280},
      ("train[:717280]", "train[717280:727280]", "train[727280:]"),
    ),
  ],
)
def test_splits_are_chosen(tmp_path, sizes, expected):
  purposes = ("train", "validation", "test")
  expected = dict(zip(purposes, expected, strict=True))
  assert datasets.divide(sizes, dict.fromkeys(purposes, "")) == expected
  if sum(sizes.values()) > 100:
    return
  order = iter(range(60))
  given = {name: [next(order) for _ in range(n)] for name, n in sizes.items()}
  images = pictures(60)
  write(tmp_path, {name: examples(images[i]) for name, i in given.items()})
  splits = opened(tmp_path)
  assert splits.split_strings == expected
  parts = {name: positions(getattr(splits, name)) for name in purposes}
  # Each example is in one split.
  assert sorted(sum(parts.values(), [])) == sorted(sum(given.values(), []))
  for name, split in expected.items():
    assert split not in given or parts[name] == given[split]


def test_explicit_splits_are_used(root):
  chosen = {
    "train_split": "train[:20%]+test[:5]",
    "validation_split": "train[:3]",
    "test_split": "test[5:]",
  }
  splits = opened(root, **chosen)
  sizes = [len(splits.train), len(splits.validation), len(splits.test)]
  assert sizes == [15, 3, 5]
  # Explicit splits may overlap.
  opened(root, train_split="train", validation_split="test")


@pytest.mark.parametrize(
  "settings, messages",
  [
    # An automatic split that would share examples with another.
    (
      {"train_split": "train"},
      ["train (train) and validation (train[40:])", "data.validation_split"],
    ),
    ({"test_split": "train[45:]"}, ["train[40:]"]),
    ({"train_split": "train[:9]+test[:1]"}, ["--config.data.test_split"]),
    # Splits that are unknown or empty.
    (
      {"train_split": "trian[:5]"},
      ["--config.data.train_split='trian[:5]'", "did you mean 'train'?"],
    ),
    ({"test_split": "test["}, ["--config.data.test_split='test['"]),
    ({"train_split": "train[:999]"}, ["train[:999]"]),
    ({"test_split": "test[5:5]"}, ["holds no example"]),
    # A crop that does not fit.
    ({"crop": 7}, ["--config.data.crop=7 is larger than the image", "8x6"]),
  ],
)
def test_impossible_settings_are_refused(root, settings, messages):
  message = fails(root, **settings)
  assert all(part in message for part in messages), message


def test_data_set_without_train_split_is_refused(tmp_path):
  write(tmp_path, {"all_of_it": examples(pictures(9))})
  message = fails(tmp_path, test_split="all_of_it")
  assert "no split `train`" in message
  assert (
    " and ".join(
      f"--config.data.{name}_split" for name in ("train", "validation")
    )
    in message
  )


@pytest.mark.parametrize("count", [3, 6])
def test_a_few_examples_are_divided(tmp_path, count):
  write(tmp_path, {"train": examples(pictures(count))})
  splits = opened(tmp_path)
  parts = [
    positions(getattr(splits, k)) for k in ("train", "validation", "test")
  ]
  assert sorted(sum(parts, [])) == list(range(count)) and all(parts)


def test_damaged_file_is_named(root, tmp_path):
  shutil.copytree(root, tmp_path / "copy")
  file = next((tmp_path / "copy").rglob("*train*array_record*"))
  content = bytearray(file.read_bytes())
  content[500] ^= 1
  file.write_bytes(content)
  train = opened(tmp_path / "copy").train
  with pytest.raises(datasets.DataError, match=r"train\S* is damaged .*again"):
    train.fetch(np.arange(len(train)))


def test_damaged_image_is_named(tmp_path):
  broken = [{"image": b"\x89PNG no more", "label": 0}] * 20
  write(tmp_path, {"train": broken})
  source = opened(tmp_path).train
  with pytest.raises(datasets.DataError, match="image 3 of tiny/1.0.0 train"):
    source.fetch(np.array([3]))


# Labels.


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
  root = tmp_path_factory.mktemp("faces")
  features = {
    "image": tfds.features.Image(shape=(8, 6, 3), encoding_format="png"),
    "attributes": {"Young": np.bool_, "Bald": np.bool_, "Smiling": np.bool_},
    "landmarks": {"eye_y": np.int64, "eye_x": np.int64},
    "weight": np.float32,
    "age": np.int64,
  }
  train = [
    {
      "image": png(image),
      "attributes": {"Young": i < 5, "Bald": i % 2 == 0, "Smiling": i % 3 == 0},
      "landmarks": {"eye_y": i + 100, "eye_x": i},
      "weight": 0.5,
      "age": i,
    }
    for i, image in enumerate(pictures(20))
  ]
  write(root, {"train": train}, features, name="faces")
  return root


_SMILE = ("not Smiling", "Smiling"), lambda i: i % 3 == 0
_BITS = ("Bald", "Smiling", "Young"), lambda i: [i % 2 == 0, i % 3 == 0, i < 5]


@pytest.mark.parametrize(
  "path, names, values, dtype",
  [
    ("", *_BITS, np.uint8),
    ("attributes/Smiling", *_SMILE, np.int32),
    ("age", None, lambda i: i, np.int32),
    ("landmarks", ("eye_x", "eye_y"), lambda i: [i, i + 100], np.int32),
  ],
)
def test_label_path_selects_a_feature(faces, path, names, values, dtype):
  splits = opened(faces, "faces", label=path)
  batch = content(splits.train)
  expected = np.array(values(batch["image"][:, 0, 0, 0].astype(int))).T
  assert splits.label_names == names
  assert splits.train.label_shape == expected.shape[1:]
  assert_array_equal(batch["label"], expected)
  assert batch["label"].dtype == dtype


_MEAN = "did you mean 'attributes/"


@pytest.mark.parametrize(
  "path, messages",
  [
    ("attributes/Smilin", [f"{_MEAN}Smiling'", "landmarks/eye_x"]),
    ("Yuong", [f"{_MEAN}Young'"]),
    ("weight", ["'weight' is not a feature"]),
  ],
)
def test_unknown_labels_are_refused(faces, path, messages):
  message = fails(faces, "faces", label=path)
  assert all(part in message for part in messages), message


def test_labels_beyond_32_bits_are_refused_by_position(tmp_path):
  features = {"image": tfds.features.Image(shape=(8, 6, 3)), "age": np.int64}
  train = [{"image": png(x), "age": 2**40} for x in pictures(20)]
  write(tmp_path, {"train": train}, features)
  source = opened(tmp_path, label="age").train
  message = r"label of example 3 of tiny.* is 1099511627776; .* below 2\*\*31"
  with pytest.raises(datasets.DataError, match=message):
    source.fetch(np.array([3]))


def test_data_set_may_lack_labels_but_not_images(tmp_path):
  features = {"image": tfds.features.Image(shape=(8, 6, 3))}
  train = [{"image": png(x)} for x in pictures(20)]
  write(tmp_path, {"train": train}, features)
  splits = opened(tmp_path)
  assert splits.label_names is None
  assert splits.train.label_shape is None
  assert list(content(splits.train)) == ["image"]
  features = {"text": tfds.features.Text()}
  write(tmp_path, {"train": [{"text": "a"}] * 20}, features, name="words")
  message = fails(tmp_path, "words")
  assert "no feature `image` of 8-bit images, but text" in message


# Fingerprints.


def test_fingerprint_changes_exactly_with_the_content(root, tmp_path):
  def fingerprint(folder=root, **changes):
    return json.dumps(opened(folder, **changes).train.fingerprint)

  base = fingerprint()
  assert base == fingerprint(num_threads=1, train_split="train[:40]")
  moved = shutil.copytree(root, tmp_path / "moved")
  assert base == fingerprint(moved)
  changes = ({"train_split": "train[:39]"}, {"crop": 4}, {"resize": 4})
  variants = [fingerprint(**c) for c in (*changes, {"grayscale": True})]
  shutil.rmtree(moved)
  images = examples(pictures(60, seed=1))
  write(moved, {"train": images[:50], "test": images[50:]})
  assert len({base, *variants, fingerprint(moved)}) == 6
