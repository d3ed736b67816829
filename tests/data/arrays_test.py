"""Arrays from files and from Python: values, splits, and what is refused."""

import hashlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support import tfds
from tests.support.pictures import noise, numbered
from vae_jax.data import arrays, cache, datasets, source

PURPOSES = source.PURPOSES
COUNT = 40


def given(data, **changes):
  return datasets.open_splits(tfds.config("", "unused", **changes), data)


def examples(splits):
  """Returns all examples of the splits, in the order of the first byte."""
  parts = [tfds.content(getattr(splits, name)) for name in PURPOSES]
  whole = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
  order = np.argsort(whole["image"][:, 0, 0, 0], kind="stable")
  return {key: values[order] for key, values in whole.items()}


@pytest.mark.parametrize("form", ["npz", "npy", "folder", "python", "image"])
def test_images_and_labels_are_those_given(tmp_path, form):
  image, label = numbered(COUNT, (8, 6, 1)), np.arange(COUNT) % 5
  data = {"image": image[..., 0], "label": label.astype(np.int64)}
  if form == "npz":
    np.savez_compressed(tmp_path / "mine.npz", **data)
    splits = tfds.opened("", f"arrays:{tmp_path}/mine.npz")
  elif form == "npy":
    np.save(tmp_path / "mine.npy", image)
    splits = tfds.opened("", f"arrays:{tmp_path}/mine.npy")
  elif form == "folder":
    for key, values in data.items():
      np.save(tmp_path / f"{key}.npy", values)
    splits = tfds.opened("", f"arrays:{tmp_path}")
  else:
    splits = given(data if form == "python" else image)
  assert splits.image_shape == (8, 6, 1) and splits.stored_size == (8, 6)
  assert isinstance(splits.train, datasets.Source)
  found = examples(splits)
  assert_array_equal(found["image"], image)
  assert splits.label_names is None
  if form in ("npy", "image"):
    assert "label" not in found and splits.train.label_shape is None
  else:
    assert_array_equal(found["label"], label)
    assert found["label"].dtype == np.int32
  # A tenth each, by a hash of the position alone.
  share = [
    int(hashlib.sha256(str(i).encode()).hexdigest()[:8], 16) / 2**32
    for i in range(COUNT)
  ]
  held_out = tfds.positions(splits.validation)
  assert held_out == [i for i, u in enumerate(share) if 0.8 <= u < 0.9]
  # What is in memory is not copied to a cache.
  data = tfds.config("", cache="host")
  assert cache.open_source(splits.train, data) is splits.train


def test_splits_and_words_are_used(tmp_path):
  image = numbered(30)
  words = np.array(["dog", "ant", "cat"])[np.arange(30) % 3]
  parts = {
    "train": slice(0, 20),
    "validation": slice(20, 25),
    "test": slice(25, 30),
  }
  data = {}
  for name, rows in parts.items():
    data |= {f"{name}_image": image[rows], f"{name}_label": words[rows]}
  np.savez(tmp_path / "mine.npz", **data)
  splits = tfds.opened("", f"arrays:{tmp_path}/mine.npz")
  assert splits.label_names == ("ant", "cat", "dog")
  for name, rows in parts.items():
    batch = tfds.content(getattr(splits, name))
    assert_array_equal(batch["image"], image[rows])
    assert_array_equal(
      batch["label"], np.array([2, 0, 1])[np.arange(30) % 3][rows]
    )
  del data["validation_image"], data["validation_label"]
  splits = given(data)
  keras = {
    f"{'xy'[key.endswith('label')]}_{key.partition('_')[0]}": values
    for key, values in data.items()
  }
  assert sorted(keras) == ["x_test", "x_train", "y_test", "y_train"]
  assert given(keras).digest == splits.digest
  both = tfds.positions(splits.train) + tfds.positions(splits.validation)
  assert sorted(both) == list(range(20))


@pytest.mark.parametrize(
  "image, limits, expected",
  [
    (lambda x: x / 255, (), lambda x: x),
    (lambda x: (x / 255).astype(np.float32), (), lambda x: x),
    (lambda x: x > 99, (), lambda x: 255 * (x > 99)),
    (lambda x: (x * 257).astype(np.uint16), (), lambda x: x),
    (lambda x: x - 500.0, (-500, -245), lambda x: x),
    (
      lambda x: x,
      (50, 150),
      lambda x: np.clip(np.round((x - 50.0) * 2.55), 0, 255),
    ),
  ],
)
def test_types_become_gray_levels_by_one_rule(image, limits, expected):
  pixels = noise(COUNT, 5, 4, 3).astype(np.int64)
  data = image(pixels)
  data = data.astype(np.uint8) if data.dtype == np.int64 else data
  splits = given({f"{name}_image": data for name in PURPOSES}, range=limits)
  assert_array_equal(tfds.content(splits.train)["image"], expected(pixels))


def test_settings_apply_to_arrays_and_sources():
  image = noise(COUNT, 8, 6, 4)
  how = {"crop": (6, 6), "resize": (3, 2), "background": "black"}
  one = given(image, **how)
  two = given(tfds.ArraySource(image), **how)
  three = given({"train": tfds.ArraySource(image)}, **how)
  mean = image[:, 1:7] * (image[:, 1:7, :, 3:] / 255.0)
  mean = mean[..., :3].reshape(COUNT, 3, 2, 2, 3, 3).mean((2, 4))
  for splits in (one, two, three):
    assert splits.image_shape == (3, 2, 3) and splits.stored_size == (8, 6)
    found = [tfds.content(getattr(splits, n))["image"] for n in PURPOSES]
    assert sum(map(len, found)) == COUNT
    for part in found:
      distance = np.abs(part[:, None].astype(float) - mean[None]).max((2, 3, 4))
      assert distance.min(1).max() <= 1.01
  assert one.name.startswith("python:") and one.digest
  assert given(one) is one


@pytest.mark.parametrize("given_as", ["array", "source"])
def test_binary_images_of_zeros_and_ones_are_scaled(given_as, caplog):
  image = (noise(COUNT, 4, 4, 1) > 127).astype(np.uint8)
  data = image if given_as == "array" else tfds.ArraySource(image)
  splits = given(data)
  assert splits.range == (0, 1) and "become 0 and 255" in splits.lines[-1]
  whole = [tfds.content(getattr(splits, name))["image"] for name in PURPOSES]
  assert set(np.unique(np.concatenate(whole))) == {0, 255}
  assert sum(x.sum() for x in whole) == 255 * image.sum()
  assert not caplog.text
  # Dark images are not binary.
  assert given(image * 31).range == ()
  assert "is 31 of 255: if it is meant to be white, set config" in caplog.text
  assert given(image * 200).range == ()


WRONG = {
  "channels first": (
    {"image": noise(9, 3, 8, 8)},
    "channels first",
    "(0, 2, 3, 1)",
  ),
  "flat": ({"image": noise(9, 64)}, "image is uint8 [9, 64]; it must be [n, h"),
  "many": ({"image": noise(9, 8, 8, 5)}, "1 to 4 channels"),
  "none": ({"image": noise(0, 8, 8, 3)}, "image is uint8 [0, 8, 8, 3]"),
  "type": ({"image": noise(9, 8, 8).astype(int)}, "int64", "must be uint8"),
  "real": (
    {"image": noise(9, 8, 8) * 1.0 + 1},
    "image[0, 0, 0, 0] is ",
    "in [0, 1]",
    "data.range",
  ),
  "nan": ({"image": np.full((9, 8, 8), np.nan)}, "image[0, 0, 0, 0] is nan"),
  "labels": (
    {"image": noise(9, 8, 8), "label": np.arange(8)},
    "9 images, but 8",
  ),
  "real labels": (
    {"image": noise(9, 8, 8), "label": np.ones(9)},
    "label is of type",
  ),
  "large labels": (
    {"image": noise(9, 8, 8), "label": np.full(9, 2**40, np.uint64)},
    "label[0] is 1099511627776",
  ),
  "bits": (
    {"image": noise(9, 8, 8), "label": np.full((9, 2), 2)},
    "label[0, 0] is 2; attributes are 0 or 1",
  ),
  "names": (
    {"x": noise(9, 8, 8)},
    "has x; what is expected are image and label",
  ),
  "train": ({"test_image": noise(9, 8, 8)}, "has test_image; what is expected"),
  "shapes": (
    {"train_image": noise(9, 8, 8), "test_image": noise(9, 8, 9)},
    "several shapes",
  ),
  "two": ({"image": noise(2, 8, 8)}, "has 2 images to divide"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused(case):
  data, *parts = WRONG[case]
  with pytest.raises(datasets.DataError) as error:
    given(data)
  message = str(error.value)
  assert all(part in message for part in parts), message
  assert "\n" not in message


def test_files_that_are_no_arrays_are_refused(tmp_path):
  def fails(name, *parts):
    message = tfds.fails("", f"arrays:{tmp_path}/{name}")
    assert all(part in message for part in parts), message

  fails("no.npz", f"there is no file {tmp_path}/no.npz")
  (tmp_path / "text.npz").write_text("hello")
  fails("text.npz", "cannot be read as arrays", "numpy.savez")
  objects = np.array([{}, 1], object)
  np.savez(tmp_path / "objects.npz", image=objects)
  fails("objects.npz", "without Python objects")
  np.savez(tmp_path / "mine.npz", image=noise(9, 8, 8))
  (tmp_path / "cut.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:300])
  fails("cut.npz", "cannot be read as arrays")
  message = tfds.fails(
    "", f"arrays:{tmp_path}/mine.npz", test_split="train[:5]"
  )
  assert "is for data sets of" in message
  assert "given in Python" in tfds.fails("", "python:0123")


def test_labels_outside_their_range_are_refused_by_position():
  label = np.arange(COUNT) % 5
  label[[17, 30]] = 5, -1
  data = {f"{name}_image": noise(COUNT, 4, 4) for name in PURPOSES}
  data["train_label"] = data["validation_label"] = data["test_label"] = label
  train = given(data).train
  with pytest.raises(datasets.DataError, match="example 17 of x is 5.*0 to 4"):
    datasets.check_labels(train, 5, "x")
  with pytest.raises(datasets.DataError, match="example 30 of x is -1"):
    datasets.check_labels(train, 6, "x")
  # Where labels are not at hand, when they are read.
  late = datasets.check_labels(
    tfds.ArraySource(noise(COUNT, 4, 4, 1), label), 5, "x"
  )
  late.fetch(np.array([18, 19]))
  with pytest.raises(datasets.DataError, match="example 17 of x is 5"):
    late.fetch(np.array([16, 17]))
  assert_array_equal(datasets.read_labels(train), label)
  assert isinstance(train, arrays.ArraySource)


def test_all_splits_are_joined_in_turn():
  image = numbered(COUNT, (8, 6, 1))
  splits = given({"image": image, "label": np.arange(COUNT) % 5})
  parts = [getattr(splits, name) for name in PURPOSES]
  joined = datasets.Joined(parts)
  assert len(joined) == COUNT and joined.label_shape == ()
  order = np.random.default_rng(0).permutation(COUNT)
  found = joined.fetch(order)
  one_by_one = [tfds.content(part) for part in parts]
  for key in ("image", "label"):
    whole = np.concatenate([part[key] for part in one_by_one])
    assert_array_equal(found[key], whole[order])
    assert found[key].dtype == whole.dtype
  # Named by their positions in the array.
  names = splits.names("all")
  first = np.concatenate([p["image"][:, 0, 0, 0] for p in one_by_one])
  assert names == tuple(f"image {i}" for i in first)
  assert splits.names("test") == names[-len(splits.test) :]
  assert splits.words("all") == "train+validation+test"
