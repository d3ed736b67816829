"""Small data sets on disk, written as anyone's TFDS builder would."""

import dataclasses
import json
import types

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import config_dict

from vae_jax.data import datasets, preparation, transform

COLORS = ("red", "green", "blue")


def config(root, name="tiny", **changes):
  empty = ("manual_dir", "train_split", "validation_split", "test_split")
  settings = dict.fromkeys((*empty, "label", "digest"), "")
  settings |= {"name": name, "dir": str(root), "num_threads": 2}
  settings |= {"unreadable": "stop"} | dataclasses.asdict(transform.Transform())
  return config_dict.ConfigDict(settings | changes)


def png(image):
  bgr = np.ascontiguousarray(image[..., ::-1])
  return cv2.imencode(".png", bgr)[1].tobytes()


def pictures(n, shape=(8, 6, 3), seed=0):
  """Random images whose first byte is their position."""
  images = np.random.default_rng(seed).integers(0, 256, (n, *shape))
  images[:, 0, 0, 0] = np.arange(n)
  return images.astype(np.uint8)


def write(
  root, splits, features=None, name="tiny", version="1.0.0", configs=()
):
  """Prepares a data set of the given examples, as anyone's builder would."""
  features = features or {
    "image": tfds.features.Image(shape=(8, 6, 3), encoding_format="png"),
    "label": tfds.features.ClassLabel(names=COLORS),
  }
  body = {
    "name": name,
    "VERSION": tfds.core.Version(version),
    "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=c) for c in configs],
    "_info": lambda self: tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    ),
    "_split_generators": lambda self, _: {
      split: self._generate_examples(split) for split in splits
    },
    "_generate_examples": lambda self, split: enumerate(splits[split]),
  }
  bases = (tfds.core.GeneratorBasedBuilder,)
  maker = types.new_class(
    "Tiny", bases, {"skip_registration": True}, lambda space: space.update(body)
  )
  for chosen in configs or (None,):
    builder = maker(
      data_dir=str(root), config=chosen, file_format="array_record"
    )
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


class ArraySource:
  """A source of arrays in memory; `fetched` counts the examples read."""

  def __init__(self, image, label=None):
    self.image, self.label = image, label
    self.image_shape = image.shape[1:]
    self.label_shape = None if label is None else label.shape[1:]
    self.fingerprint = {"dataset": "noise/1.0.0", "sum": int(image.sum())}
    self.fetched = 0

  def __len__(self):
    return len(self.image)

  def fetch(self, indices):
    self.fetched += len(indices)
    data = {"image": self.image, "label": self.label}
    return {k: v[indices] for k, v in data.items() if v is not None}


def examples(images):
  return [
    {"image": png(image), "label": int(image[0, 0, 0]) % 3} for image in images
  ]


def without_tensorflow(monkeypatch, spec=None):
  monkeypatch.setattr(preparation.importlib.util, "find_spec", lambda _: spec)


def content(source):
  return source.fetch(np.arange(len(source)))


def positions(source):
  return sorted(content(source)["image"][:, 0, 0, 0].tolist())


def opened(root, name="tiny", **changes):
  return datasets.open_splits(config(root, name, **changes))


def fails(root, name="tiny", **changes):
  with pytest.raises(datasets.DataError) as error:
    opened(root, name, **changes)
  message = str(error.value)
  assert "\n" not in message
  return message


def edit_info(root, **changes):
  path = root / "tiny" / "1.0.0" / "dataset_info.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
