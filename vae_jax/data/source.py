"""What a split of any data set offers, and how one is divided into three."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import Integer
from ml_collections import config_dict

from vae_jax.data import errors
from vae_jax.data.transform import Transform

_READ = 1000  # Examples read at a time for their labels alone.
PURPOSES = ("train", "validation", "test")
ALL = "all"  # The three, one after the other.
Indices = Integer[np.ndarray, " n"]  # Positions in a split.
Examples = dict[str, Integer[np.ndarray, "n ..."]]


@runtime_checkable
class Source(Protocol):
  """Examples by position: the interface of a split and of its cache.

  Attributes:
    image_shape: (h, w, c) of each image.
    label_shape: () for a class id, (k,) for attributes, None without a label.
    fingerprint: JSON-able description of everything that determines the
      examples; the key of their cache.
  """

  image_shape: tuple[int, int, int]
  label_shape: tuple[int, ...] | None
  fingerprint: dict[str, Any]

  def __len__(self) -> int:
    """Returns the number of examples."""

  def fetch(self, indices: Indices) -> Examples:
    """Returns `image` uint8[n h w c] of the positions and, if the data set has
    labels, `label` int32[n] or int32[n k] (uint8 for bits)."""


class Transformed:
  """A source whose images go through a `Transform`.

  Attributes:
    labels: of all examples, where the source has them at hand.
    stored_size: height and width of the source's images.
  """

  def __init__(self, source: Source, how: Transform):
    self._source, self._how = source, how
    self.image_shape = how.shape(source.image_shape)
    self.label_shape = source.label_shape
    self.labels = getattr(source, "labels", None)
    self.stored_size = source.image_shape[:2]
    self.fingerprint = {**source.fingerprint, **how.fingerprint()}

  def __len__(self) -> int:
    return len(self._source)

  def fetch(self, indices: Indices) -> Examples:
    """Reads examples; see `Source.fetch`."""
    batch = self._source.fetch(indices)
    image = np.empty((len(indices), *self.image_shape), np.uint8)
    for row, picture in enumerate(batch["image"]):
      image[row] = self._how(picture)
    return {**batch, "image": image}


class Checked:
  """A source that refuses class ids outside [0, count) when they are read."""

  def __init__(self, source: Source, count: int, name: str):
    self._source, self._count, self._name = source, count, name
    self.image_shape = source.image_shape
    self.label_shape = source.label_shape
    self.fingerprint = source.fingerprint

  def __len__(self) -> int:
    return len(self._source)

  def fetch(self, indices: Indices) -> Examples:
    """Reads examples; see `Source.fetch`."""
    batch = self._source.fetch(indices)
    _check_range(batch["label"], self._count, indices, self._name)
    return batch


def check_labels(source: Source, count: int, name: str) -> Source:
  """Returns a source of class ids that are checked to be in [0, count): at once
  where all are at hand, else when they are read.

  Raises:
    DataError: one is not; it is named by its position.
  """
  labels = getattr(source, "labels", None)
  if labels is None:
    return Checked(source, count, name)
  _check_range(labels, count, np.arange(len(labels)), name)
  return source


def read_labels(source: Source) -> Integer[np.ndarray, "n ..."]:
  """Returns the labels of all examples."""
  labels = getattr(source, "labels", None)
  if labels is None:
    parts = np.array_split(np.arange(len(source)), 1 + len(source) // _READ)
    labels = np.concatenate([source.fetch(rows)["label"] for rows in parts])
  return labels


def _check_range(
  label: Integer[np.ndarray, " n"], count: int, indices: Indices, name: str
) -> None:
  wrong = np.flatnonzero((label < 0) | (label >= count))
  if len(wrong):
    raise errors.DataError(
      f"the label of example {indices[wrong[0]]} of {name} is "
      f"{label[wrong[0]]}, but config.data.num_labels is {count}: labels must "
      f"be from 0 to {count - 1}"
    )


class Subset:
  """Some examples of a source, by their positions there."""

  def __init__(self, source: Source, rows: Indices):
    self._source, self._rows = source, rows
    self.image_shape = source.image_shape
    self.label_shape = source.label_shape
    labels = getattr(source, "labels", None)
    self.labels = None if labels is None else labels[rows]
    self.in_memory = getattr(source, "in_memory", False)
    digest = hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes())
    self.fingerprint = {**source.fingerprint, "rows": digest.hexdigest()}

  def __len__(self) -> int:
    return len(self._rows)

  @property
  def names(self) -> tuple[str, ...]:
    """A name for each example: the source's, or the position there."""
    names = getattr(self._source, "names", None)
    return tuple(names[i] if names else f"image {i}" for i in self._rows)

  def fetch(self, indices: Indices) -> Examples:
    """Reads examples; see `Source.fetch`."""
    return self._source.fetch(self._rows[indices])


class First(Subset):
  """The first examples of a source, at most `count` of them."""

  def __init__(self, source: Source, count: int):
    count = min(count, len(source))
    super().__init__(source, np.arange(count))
    self.fingerprint = {**source.fingerprint, "first": count}


class Joined:
  """The examples of several sources alike, one after the other."""

  def __init__(self, parts: Sequence[Source]):
    self._parts = parts
    self._starts = np.cumsum([0, *map(len, parts)])
    self.image_shape = parts[0].image_shape
    self.label_shape = parts[0].label_shape
    self.fingerprint = {"joined": [part.fingerprint for part in parts]}

  def __len__(self) -> int:
    return int(self._starts[-1])

  def fetch(self, indices: Indices) -> Examples:
    """Reads examples; see `Source.fetch`."""
    owner = np.searchsorted(self._starts, indices, "right") - 1
    batch: Examples = {}
    for k in np.unique(owner):
      rows = np.flatnonzero(owner == k)
      found = self._parts[k].fetch(indices[rows] - self._starts[k])
      for name, values in found.items():
        shape = len(indices), *values.shape[1:]
        batch.setdefault(name, np.empty(shape, values.dtype))[rows] = values
    return batch


@dataclasses.dataclass(frozen=True)
class Splits:
  """An open data set.

  Attributes:
    train: examples for training.
    validation: examples for the choice between models.
    test: examples for reported results.
    name: in the form of `data.name`, with config and version.
    image_shape: (h, w, c), after crop, resize and grayscale.
    label_names: of the classes or attributes; None without names.
    split_strings: the data set's split for each of the three sources.
    stored_size: height and width of all images before crop and resize; (0, 0)
      if they vary or are not known.
    eight_bits: whether all images are stored with 8 bits per channel.
    range: `data.range`, or what was found to be right for it.
    digest: hash of all examples of one's own data, which no version names; ""
      for data sets of tensorflow-datasets.
    lines: sentences about the data, for the start of a run.
  """

  train: Source
  validation: Source
  test: Source
  name: str
  image_shape: tuple[int, int, int]
  label_names: tuple[str, ...] | None
  split_strings: dict[str, str]
  stored_size: tuple[int, int] = (0, 0)
  eight_bits: bool = True
  range: tuple[float | int, ...] = ()
  digest: str = ""
  lines: tuple[str, ...] = ()

  def words(self, split: str) -> str:
    """Returns the data set's split that a source, or "all", is."""
    return self.split_strings.get(split) or "+".join(
      self.split_strings[purpose] for purpose in PURPOSES
    )

  def names(self, split: str) -> tuple[str, ...]:
    """Returns a name for each image: the path of its file, or its position."""
    found: list[str] = []
    for part in PURPOSES if split == ALL else (split,):
      source = getattr(self, part)
      names = getattr(source, "names", None)
      found += names or [f"{part} {i}" for i in range(len(source))]
    return tuple(found)


def digest(parts: Mapping[str, Source]) -> str:
  """Returns a hash of the fingerprints of splits."""
  text = json.dumps(
    {k: p.fingerprint for k, p in parts.items()}, sort_keys=True
  )
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_names() -> dict[str, str]:
  """Returns the split strings of data that are not of TFDS."""
  return {purpose: purpose for purpose in PURPOSES}


def place(
  data: config_dict.ConfigDict, prefix: str, kind: str, splits: str
) -> pathlib.Path:
  """Returns the path in a name such as folder:PATH.

  Args:
    data: the node `config.data`.
    prefix: of the name, before the path.
    kind: "folder"; or "file", which may be a folder of files.
    splits: what the splits of such data are, for messages.

  Raises:
    DataError: it is not there, or a split of TFDS's language is set.
  """
  path = pathlib.Path(data.name.removeprefix(prefix)).expanduser().absolute()
  there = path.is_dir() if kind == "folder" else path.exists()
  if "://" in data.name or not there:
    raise errors.DataError(
      f"--config.data.name={data.name!r}: there is no {kind} {path} on this "
      "machine"
    )
  for purpose in PURPOSES:
    split = data[f"{purpose}_split"]
    if split not in ("", purpose):
      raise errors.DataError(
        f"--config.data.{purpose}_split={split!r} is for data sets of "
        f"tensorflow-datasets; the splits of {data.name} are {splits}"
      )
  return path


def divide_by_hash(
  names: Sequence[str], empty: Sequence[str], what: str
) -> dict[str, np.ndarray]:
  """Divides examples into `train` and the purposes `empty`, a tenth each.

  The part of an example is a function of its name alone, so that new examples
  move none of the old ones. A part that would get nothing, which happens below
  some 30 examples, gets one of `train`.

  Args:
    names: of the examples.
    empty: of "validation" and "test", those that have no examples yet.
    what: the data, for messages.

  Raises:
    DataError: there are too few examples.
  """
  if len(names) <= len(empty):
    raise errors.DataError(
      f"{what} has {len(names)} images to divide into train"
      f"{''.join(f', {purpose}' for purpose in empty)}; it needs at least one "
      "for each"
    )
  # In tenths: below 8 train, then validation, then test.
  place = np.array([10 * _uniform(name) for name in names])
  bounds = {"validation": (8, 9), "test": (9, 10)}
  owner = np.full(len(names), "train", object)
  for purpose in empty:
    low, high = bounds[purpose]
    owner[(place >= low) & (place < high)] = purpose
  for purpose in ("train", *empty):
    if not np.any(owner == purpose):
      largest = max(("train", *empty), key=lambda p: np.sum(owner == p))
      rows = np.flatnonzero(owner == largest)
      owner[rows[np.argmax(place[rows])]] = purpose
      logging.info("%s is small: %s gets one image", what, purpose)
  return {p: np.flatnonzero(owner == p) for p in ("train", *empty)}


def _uniform(name: str) -> float:
  """Returns a number in [0, 1) that is a function of a name."""
  digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
  return int.from_bytes(digest[:4], "big") / 2**32
