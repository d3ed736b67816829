"""MNIST and Fashion-MNIST from their four official files, without TensorFlow.

The manually downloaded files (`FILES`) give the same data set as
tensorflow-datasets, which needs TensorFlow to prepare it: version 3.0.1, with
the same images and labels in the same order.

An idx file holds, in big-endian bytes, two zeros, the type of the values (8 =
uint8), the number of axes, the size of each axis as 32 bits, and the values in
C order.

References:
  LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/, the file format.
"""

import gzip
import math
import pathlib
import struct
import types
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from vae_jax.config import reason
from vae_jax.data import errors

NAMES = ("mnist", "fashion_mnist")
# {split: (images, labels, their official number)}.
FILES = {
  "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
  "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000),
}
_SIDE = 28
_CLASSES = 10
_ALL = ", ".join(f"{f}.gz" for *pair, _ in FILES.values() for f in pair)
INSTRUCTIONS = (
  f"put {_ALL} (they may be unpacked) into one folder and name it with "
  "--config.data.manual_dir=FOLDER, which needs neither TensorFlow nor a "
  "download"
)


def prepare(
  name: str, manual_dir: pathlib.Path, data_dir: pathlib.Path
) -> None:
  """Writes one of `NAMES` as ArrayRecord under the root `data_dir` from the
  four official files in `manual_dir`.

  Raises:
    DataError: a file is missing, cut short, or of another kind.
  """
  logging.info("preparing %s under %s from %s", name, data_dir, manual_dir)
  splits = _read_all(manual_dir)
  own = {
    "name": name,
    "_split_generators": lambda self, _: {
      split: self._generate_examples(*arrays)
      for split, arrays in splits.items()
    },
    "_generate_examples": lambda self, *arrays: _examples(*arrays),
  }
  # Features and version are those of tensorflow-datasets.
  maker = types.new_class(
    name,
    (tfds.builder_cls(name),),
    {"skip_registration": True},
    lambda space: space.update(own),
  )
  builder = maker(data_dir=str(data_dir), file_format="array_record")
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )


def _examples(
  images: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, dict[str, Any]]]:
  # The key is the position, as in tensorflow-datasets, so that its shuffle,
  # which hashes the key, gives the same order of examples.
  for index, (image, label) in enumerate(zip(images, labels, strict=True)):
    content = cv2.imencode(".png", image)[1].tobytes()
    yield index, {"image": content, "label": int(label)}


def _read_all(folder: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns images [n 28 28] and labels [n] of each split."""
  if not folder.is_dir():
    raise errors.DataError(
      f"--config.data.manual_dir={folder} is not a folder; {INSTRUCTIONS}"
    )
  paths = {
    file: next(filter(pathlib.Path.is_file, _places(folder, file)), None)
    for *pair, _ in FILES.values()
    for file in pair
  }
  missing = [f"{file}.gz" for file, path in paths.items() if path is None]
  if missing:
    raise errors.DataError(
      f"{folder} lacks {', '.join(missing)}; {INSTRUCTIONS}"
    )
  splits = {}
  for split, (*pair, official) in FILES.items():
    ours = [paths[file] for file in pair]
    image, label = read(ours[0], axes=3), read(ours[1], axes=1)
    if image.shape[1:] != (_SIDE, _SIDE):
      raise errors.DataError(
        f"{ours[0]} has images of {list(image.shape[1:])} pixels; they must be "
        f"[{_SIDE}, {_SIDE}]"
      )
    if len(image) != len(label):
      raise errors.DataError(
        f"{ours[0]} has {len(image):,} images, but {ours[1]} has "
        f"{len(label):,} labels"
      )
    if len(label) and label.max() >= _CLASSES:
      at = int(np.argmax(label >= _CLASSES))
      raise errors.DataError(
        f"{ours[1]}: label {at} is {label[at]}; labels are from 0 to "
        f"{_CLASSES - 1}"
      )
    if len(image) != official:
      logging.warning(
        "%s has %s images; the official file has %s",
        ours[0],
        f"{len(image):,}",
        f"{official:,}",
      )
    splits[split] = image, label
  return splits


def _places(folder: pathlib.Path, file: str) -> list[pathlib.Path]:
  """Returns where a file may be; some name it with a dot before idx."""
  names = file, file.replace("-idx", ".idx")
  return [folder / f"{name}{end}" for name in names for end in (".gz", "")]


def read(path: pathlib.Path, *, axes: int) -> np.ndarray:
  """Returns the uint8 values of an idx file, packed by gzip or not.

  Raises:
    DataError: it has another number of axes, is cut short, or is no idx file.
  """
  try:
    content = path.read_bytes()
    if path.suffix == ".gz":
      content = gzip.decompress(content)
  except (OSError, EOFError, zlib.error) as error:
    raise errors.DataError(
      f"{path} cannot be unpacked ({reason(error)}): it is cut short or no "
      "gzip file, download it again"
    ) from error
  expected, start = 8 << 8 | axes, 4 + 4 * axes
  magic = struct.unpack(">I", content[:4])[0] if len(content) >= start else None
  if magic != expected:
    found = "is too short" if magic is None else f"starts with {magic}"
    raise errors.DataError(
      f"{path} {found}; an idx file of {axes} axes of uint8 starts with the "
      f"magic number {expected}: it is another file, download it again"
    )
  shape = struct.unpack(f">{axes}I", content[4:start])
  size = len(content) - start
  if size != math.prod(shape):
    raise errors.DataError(
      f"{path} has {size:,} values, but its header says {list(shape)}, which "
      f"are {math.prod(shape):,}: it is damaged, download it again"
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
