"""Ground-truth factors are read without decoding images."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal

from tests.support.tfds import config, content, pictures, png, write
from vae_jax.data import datasets, errors, ground_truth, preparation
from vae_jax.data.synthetic_faces import dataset

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def no_decoding(monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError("an image was decoded")

  monkeypatch.setattr(tfds.features.Image, "decode_example_np", refuse)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
  """A data set like dsprites: class ids and their real values, one split."""
  root = tmp_path_factory.mktemp("sprites")
  features = {
    "image": tfds.features.Image(shape=(8, 6, 3), encoding_format="png"),
    "value_scale": tfds.features.Tensor(shape=(), dtype=np.float32),
  }
  for name, count in {"shape": 3, "scale": 2, "color": 1}.items():
    features[f"label_{name}"] = tfds.features.ClassLabel(num_classes=count)
  columns = "image label_shape label_scale label_color value_scale".split()
  examples = [
    dict(zip(columns, (png(image), i % 3, i // 6, 0, i / 6), strict=True))
    for i, image in enumerate(pictures(12))
  ]
  write(root, {"train": examples}, features)
  return config(root)


def test_faces_have_the_factors_they_were_drawn_from(faces_dir, no_decoding):
  builder = preparation.builder(config(faces_dir, "synthetic_faces/tiny"))
  read = ground_truth.read(builder, "train[8:40]")
  assert read.names == tuple(sorted(dataset.FACTORS))
  assert read.values.shape == (32, 32) and read.values.dtype == np.int32
  assert read.dropped == ()
  drawn = [dataset.sample_factors("train", i) for i in range(8, 40)]
  for name, column in zip(read.names, read.values.T, strict=True):
    values = np.array([sample[name] for sample in drawn])
    if values.dtype.kind == "i":
      assert_array_equal(column, values)
    else:
      # Ten bins of three or four examples each, in the order of the values.
      assert set(np.bincount(column)) == {3, 4}
      assert np.all(np.diff(column[np.argsort(values)]) >= 0)


def test_class_ids_follow_the_images_of_the_split(sprites, monkeypatch):
  builder = preparation.builder(sprites)
  splits = datasets.open_splits(sprites)
  read = ground_truth.read(builder, splits.split_strings["train"])
  assert read.names == ("scale", "shape")
  assert read.dropped == ("color",)
  order = content(splits.train)["image"][:, 0, 0, 0].astype(int)
  assert_array_equal(read.values[:, 0], order // 6)
  assert_array_equal(read.values[:, 1], order % 3)
  values = ground_truth.read(builder, "train").values
  monkeypatch.setattr(ground_truth, "CHUNK", 5)
  assert_array_equal(ground_truth.read(builder, "train").values, values)


@pytest.mark.parametrize(
  "values, bins, expected",
  [
    ([3, 7, 3], 2, [3, 7, 3]),
    ([True, False, True], 2, [1, 0, 1]),
    ([0.5, 0.1, 0.5], 2, [1, 0, 1]),
    ([0.4, 0.1, 0.2, 0.3], 2, [1, 0, 0, 1]),
    # One value may fill several bins: most faces have no gray hair.
    ([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0], 4, [1, 1, 1, 1, 2, 2, 3, 3]),
  ],
)
def test_real_factors_become_quantile_bins(values, bins, expected):
  classes = ground_truth.discretize(np.array(values), bins=bins)
  assert classes.dtype == np.int32
  assert_array_equal(classes, expected)


def test_data_set_without_factors_is_refused(root, sprites):
  with pytest.raises(errors.DataError, match="has no ground-truth factors"):
    ground_truth.read(preparation.builder(config(root)), "train")
  with pytest.raises(errors.DataError, match="no factor of tiny.* varies"):
    ground_truth.read(preparation.builder(sprites), "train[:1]")
