"""Prepared data sets: images, labels, splits and fingerprints."""

import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.support.tfds import (
  COLORS,
  config,
  content,
  examples,
  fails,
  pictures,
  png,
  positions,
  write,
)
from vae_jax.data import datasets, records

pytestmark = pytest.mark.usefixtures("offline")


# Examples.


def test_images_and_class_ids_are_those_written(root):
  splits = datasets.open_splits(config(root))
  assert isinstance(splits.train, datasets.Source)
  assert splits.name == "tiny:1.0.0"
  assert splits.image_shape == splits.test.image_shape == (8, 6, 3)
  assert splits.label_names == COLORS
  assert splits.train.label_shape == ()
  batch = content(splits.test)
  order = batch["image"][:, 0, 0, 0].astype(int)
  np.testing.assert_array_equal(batch["image"], pictures(60)[order])
  np.testing.assert_array_equal(batch["label"], order % 3)
  assert batch["image"].dtype == np.uint8
  assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("num_threads", [1, 2, 7])
def test_number_of_threads_changes_nothing(root, num_threads):
  one = datasets.open_splits(config(root, num_threads=1)).train
  many = datasets.open_splits(config(root, num_threads=num_threads)).train
  # Enough for several threads.
  indices = np.tile([3, 39, 0, 3, 17], 30)
  np.testing.assert_array_equal(
    many.fetch(indices)["image"], content(one)["image"][indices]
  )
  assert len(many.fetch(indices[:0])["image"]) == 0


def test_position_outside_the_split_is_refused(root):
  with pytest.raises(ValueError, match="num_records"):
    datasets.open_splits(config(root)).train.fetch(np.array([40]))


def test_source_survives_a_pickle(root):
  source = datasets.open_splits(config(root)).test
  again = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(
    content(again)["image"], content(source)["image"]
  )


# Splits.


def test_automatic_validation_is_the_end_of_train(root):
  splits = datasets.open_splits(config(root))
  assert splits.split_strings == {
    "train": "train[:40]",
    "validation": "train[40:]",
    "test": "test",
  }
  assert positions(splits.test) == list(range(50, 60))
  both = positions(splits.train) + positions(splits.validation)
  assert sorted(both) == list(range(50))


def test_automatic_test_comes_after_validation(tmp_path):
  write(tmp_path, {"train": examples(pictures(50))})
  splits = datasets.open_splits(config(tmp_path))
  assert splits.split_strings == {
    "train": "train[:35]",
    "validation": "train[35:45]",
    "test": "train[45:]",
  }
  parts = [splits.train, splits.validation, splits.test]
  assert sorted(sum(map(positions, parts), [])) == list(range(50))


@pytest.mark.parametrize("name", ["validation", "valid"])
def test_own_validation_split_is_used(tmp_path, name):
  images = pictures(9)
  parts = {"train": images[:5], name: images[5:7], "test": images[7:]}
  write(tmp_path, {k: examples(v) for k, v in parts.items()})
  splits = datasets.open_splits(config(tmp_path))
  assert splits.split_strings == {
    "train": "train",
    "validation": name,
    "test": "test",
  }
  assert positions(splits.validation) == [5, 6]


def test_automatic_splits_of_mnist_and_dsprites():
  def strings(**sizes):
    asked = dict.fromkeys(("train", "validation", "test"), "")
    return datasets.divide(sizes, asked)

  assert strings(train=60_000, test=10_000) == {
    "train": "train[:50000]",
    "validation": "train[50000:]",
    "test": "test",
  }
  assert strings(train=737_280) == {
    "train": "train[:717280]",
    "validation": "train[717280:727280]",
    "test": "train[727280:]",
  }


def test_explicit_splits_are_used(root):
  splits = datasets.open_splits(
    config(
      root,
      train_split="train[:20%]+test[:5]",
      validation_split="train[:3]",
      test_split="test[5:]",
    )
  )
  assert [len(splits.train), len(splits.validation), len(splits.test)] == [
    15,
    3,
    5,
  ]


def test_automatic_split_that_shares_examples_is_refused(root):
  message = fails(config(root, train_split="train"))
  assert "train (train) and validation (train[40:])" in message
  assert "--config.data.validation_split" in message
  assert "train[40:]" in fails(config(root, test_split="train[45:]"))
  message = fails(config(root, train_split="train[:9]+test[:1]"))
  assert "--config.data.test_split" in message
  # Explicit splits may overlap.
  datasets.open_splits(
    config(root, train_split="train", validation_split="test")
  )


def test_unknown_and_empty_splits_are_refused(root):
  message = fails(config(root, train_split="trian[:5]"))
  assert "--config.data.train_split='trian[:5]'" in message
  assert "did you mean 'train'?" in message
  assert "--config.data.test_split='test['" in fails(
    config(root, test_split="test[")
  )
  assert "train[:999]" in fails(config(root, train_split="train[:999]"))
  assert "holds no example" in fails(config(root, test_split="test[5:5]"))


def test_data_set_without_train_split_is_refused(tmp_path):
  write(tmp_path, {"all_of_it": examples(pictures(9))})
  message = fails(config(tmp_path, test_split="all_of_it"))
  assert "no split `train`" in message
  assert (
    "--config.data.train_split and --config.data.validation_split" in message
  )


# Transforms.


def test_center_crop_keeps_the_center(root):
  batch = content(datasets.open_splits(config(root, crop=4)).test)
  expected = pictures(60)[50:, 2:6, 1:5]
  assert sorted(map(np.ndarray.tobytes, batch["image"])) == sorted(
    map(np.ndarray.tobytes, expected)
  )


def test_resize_takes_the_mean_over_each_area():
  image = pictures(1, (12, 12, 3))[0]
  small = records.Transform(crop=0, resize=4, grayscale=False)(image)
  mean = image.reshape(4, 3, 4, 3, 3).astype(float).mean((1, 3))
  assert np.abs(small - mean).max() <= 0.5 + 1e-6
  # Areas that overlap pixels partly weight them by the overlap.
  weights = np.array([[1, 0.5, 0], [0, 0.5, 1]]) / 1.5
  three = pictures(1, (3, 3, 1))[0]
  two = records.Transform(crop=0, resize=2, grayscale=False)(three)
  exact = weights @ three[..., 0].astype(float) @ weights.T
  assert np.abs(two[..., 0] - exact).max() <= 0.5 + 1e-4


def test_grayscale_is_luma():
  for channels in (3, 4):
    image = pictures(1, (8, 6, channels))[0]
    gray = records.Transform(crop=0, resize=0, grayscale=True)(image)
    luma = image[..., :3] @ np.array([0.299, 0.587, 0.114])
    assert gray.shape == (8, 6, 1)
    assert np.abs(gray[..., 0] - luma).max() <= 0.51
  one = pictures(1, (8, 6, 1))[0]
  transform = records.Transform(crop=0, resize=0, grayscale=True)
  np.testing.assert_array_equal(transform(one), one)


@pytest.mark.parametrize("grayscale", [False, True])
def test_image_shape_is_that_of_the_images(root, grayscale):
  splits = datasets.open_splits(
    config(root, crop=5, resize=3, grayscale=grayscale)
  )
  assert splits.image_shape == (3, 3, 1 if grayscale else 3)
  assert content(splits.test)["image"].shape == (10, *splits.image_shape)


def test_crop_larger_than_the_image_is_refused(root):
  message = fails(config(root, crop=7))
  assert "--config.data.crop=7 is larger than the image" in message
  assert "8x6" in message


def test_images_of_several_sizes_need_a_crop(tmp_path):
  images = [*pictures(10, (8, 6, 3)), *pictures(10, (7, 9, 3))]
  feature = {"image": tfds.features.Image(encoding_format="png")}
  write(tmp_path, {"train": [{"image": png(x)} for x in images]}, feature)
  cropped = datasets.open_splits(config(tmp_path, crop=6))
  assert cropped.image_shape == (6, 6, 3)
  assert len(content(cropped.train)["image"]) == len(cropped.train)
  with pytest.raises(datasets.DataError, match="--config.data.resize"):
    content(datasets.open_splits(config(tmp_path)).train)


def test_damaged_image_is_named(tmp_path):
  broken = [{"image": b"\x89PNG no more", "label": 0}] * 20
  write(tmp_path, {"train": broken})
  source = datasets.open_splits(config(tmp_path)).train
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


def test_attributes_are_the_label_by_name(faces):
  splits = datasets.open_splits(config(faces, "faces"))
  assert splits.label_names == ("Bald", "Smiling", "Young")
  assert splits.train.label_shape == (3,)
  batch = content(splits.train)
  i = batch["image"][:, 0, 0, 0].astype(int)
  np.testing.assert_array_equal(
    batch["label"], np.stack([i % 2 == 0, i % 3 == 0, i < 5], 1)
  )
  assert batch["label"].dtype == np.uint8


def test_label_path_selects_a_feature(faces):
  def labels(path):
    splits = datasets.open_splits(config(faces, "faces", label=path))
    batch = content(splits.train)
    i = batch["image"][:, 0, 0, 0].astype(int)
    assert batch["label"].dtype == np.int32
    return splits.label_names, batch["label"], i

  names, label, i = labels("attributes/Smiling")
  assert names == ("not Smiling", "Smiling")
  np.testing.assert_array_equal(label, i % 3 == 0)
  names, label, i = labels("age")
  assert names is None
  np.testing.assert_array_equal(label, i)
  names, label, i = labels("landmarks")
  assert names == ("eye_x", "eye_y")
  np.testing.assert_array_equal(label, np.stack([i, i + 100], 1))


def test_unknown_labels_are_refused(faces):
  message = fails(config(faces, "faces", label="attributes/Smilin"))
  assert "did you mean 'attributes/Smiling'" in message
  assert "landmarks/eye_x" in message
  assert "did you mean 'attributes/Young'" in fails(
    config(faces, "faces", label="Yuong")
  )
  assert "'weight' is not a feature" in fails(
    config(faces, "faces", label="weight")
  )


def test_data_set_without_label_has_none(tmp_path):
  features = {"image": tfds.features.Image(shape=(8, 6, 3))}
  write(
    tmp_path, {"train": [{"image": png(x)} for x in pictures(20)]}, features
  )
  splits = datasets.open_splits(config(tmp_path))
  assert splits.label_names is None
  assert splits.train.label_shape is None
  assert list(content(splits.train)) == ["image"]


def test_data_set_without_images_is_refused(tmp_path):
  write(
    tmp_path, {"train": [{"text": "a"}] * 20}, {"text": tfds.features.Text()}
  )
  assert "no feature `image` of 8-bit images, but text" in fails(
    config(tmp_path)
  )


# Fingerprints.


def test_fingerprint_changes_exactly_with_the_content(root, tmp_path):
  def fingerprint(folder=root, **changes):
    train = datasets.open_splits(config(folder, **changes)).train
    return json.dumps(train.fingerprint)

  base = fingerprint()
  assert base == fingerprint(num_threads=1, train_split="train[:40]")
  moved = shutil.copytree(root, tmp_path / "moved")
  assert base == fingerprint(moved)
  variants = [
    fingerprint(train_split="train[:39]"),
    fingerprint(crop=4),
    fingerprint(resize=4),
    fingerprint(grayscale=True),
  ]
  shutil.rmtree(moved)
  images = pictures(60, seed=1)
  write(moved, {"train": examples(images[:50]), "test": examples(images[50:])})
  variants.append(fingerprint(moved))
  assert len({base, *variants}) == 6
