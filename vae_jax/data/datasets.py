"""A data set by name: its splits as images and labels with random access."""

import dataclasses
import pathlib
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Integer
from ml_collections import config_dict

from vae_jax.config import reason
from vae_jax.data import errors, preparation, records

DataError = errors.DataError

Indices = Integer[np.ndarray, " n"]  # Positions in a split.
Examples = dict[str, Integer[np.ndarray, "n ..."]]


_Range = tuple[str, int, int]  # File, first record, end.


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


class First:
  """The first examples of a source, at most `count` of them."""

  def __init__(self, source: Source, count: int):
    self._source = source
    self._count = min(count, len(source))
    self.image_shape = source.image_shape
    self.label_shape = source.label_shape
    self.fingerprint = {**source.fingerprint, "first": self._count}

  def __len__(self) -> int:
    return self._count

  def fetch(self, indices: Indices) -> Examples:
    """Reads examples; see `Source.fetch`."""
    return self._source.fetch(indices)


@dataclasses.dataclass(frozen=True)
class Splits:
  """An open data set.

  Attributes:
    train: examples for training.
    validation: examples for the choice between models.
    test: examples for reported results.
    name: with config and version, in the form of `data.name`.
    image_shape: (h, w, c), after crop, resize and grayscale.
    label_names: of the classes or attributes; None without a label.
    split_strings: the data set's split for each of the three sources.
  """

  train: Source
  validation: Source
  test: Source
  name: str
  image_shape: tuple[int, int, int]
  label_names: tuple[str, ...] | None
  split_strings: dict[str, str]


def open_splits(data: config_dict.ConfigDict) -> Splits:
  """Opens the data set of the node `config.data`, preparing it first if it is
  not on disk.

  It reads metadata only, and one image if the metadata do not contain the
  shape of the images.

  Raises:
    DataError: see `preparation.builder`; or the split, label or image does not
      exist, or the crop is larger than the image.
  """
  builder = preparation.builder(data)
  features = dict(builder.info.features.items())
  image = features.get("image")
  if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
    raise DataError(
      f"{builder.info.full_name} has no feature `image` of 8-bit images, but "
      f"{', '.join(sorted(features))}: choose another --config.data.name"
    )
  strings = split_strings(builder, data)
  label = records.select_label(features, data.label)
  sources = {
    name: records.RecordSource(
      builder,
      split,
      transform=records.Transform(data.crop, data.resize, data.grayscale),
      label=label,
      num_threads=data.num_threads,
    )
    for name, split in strings.items()
  }
  base, _, version = builder.info.full_name.rpartition("/")
  return Splits(
    **sources,
    name=f"{base}:{version}",
    image_shape=sources["train"].image_shape,
    label_names=label.names if label else None,
    split_strings=strings,
  )


def stored_size(data: config_dict.ConfigDict) -> tuple[int, int] | None:
  """Returns height and width of a data set's images before any crop, pixels;
  None if the metadata do not contain them."""
  height, width, _ = preparation.builder(data).info.features["image"].shape
  return None if None in (height, width) else (height, width)


def split_strings(
  builder: tfds.core.DatasetBuilder, data: config_dict.ConfigDict
) -> dict[str, str]:
  """Returns the splits for training, validation and testing.

  Splits that the config leaves open are the data set's own `validation` (or
  `valid`) and `test` split. Without these they are taken from the end of
  `train`, at most 10,000 examples each: a tenth for testing, before it a fifth
  for validation; the rest is for training.

  Raises:
    DataError: a split is unknown or empty, or an automatic one shares examples
      with another.
  """
  asked = {k: data[f"{k}_split"] for k in ("train", "validation", "test")}
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  chosen = divide(sizes, asked)
  if not all(chosen.values()):
    _refuse(builder, asked, "has no split `train` to divide")
  ranges = {k: _ranges(builder, k, split) for k, split in chosen.items()}
  for one, other, allowed in (
    # Two splits that are both set may overlap, to let a model overfit.
    ("train", "validation", asked["train"] and asked["validation"]),
    ("train", "test", asked["train"] and asked["test"]),
    ("validation", "test", asked["validation"]),
  ):
    if not allowed and _overlap(ranges[one], ranges[other]):
      _refuse(
        builder,
        asked,
        f"would share examples between {one} ({chosen[one]}) and {other} "
        f"({chosen[other]})",
      )
  return chosen


def divide(sizes: dict[str, int], asked: dict[str, str]) -> dict[str, str]:
  """Chooses the splits that were left open; see `split_strings`.

  Args:
    sizes: number of examples of each split of the data set.
    asked: split for each purpose; "" = left open.

  Returns:
    `asked` without "", unless the data set has no `train` split to divide.
  """
  chosen = dict(asked)
  for own in ("valid", "validation", "test"):
    purpose = "validation" if own == "valid" else own
    if own in sizes and not asked[purpose]:
      chosen[purpose] = own
  if "train" not in sizes:
    return chosen
  total = end = sizes["train"]
  for purpose, share in (("test", total // 10), ("validation", total // 5)):
    if not chosen[purpose]:
      start = end - min(10_000, share)
      chosen[purpose] = f"train[{start}:{'' if end == total else end}]"
      end = start
  rest = "train" if end == total else f"train[:{end}]"
  return {**chosen, "train": chosen["train"] or rest}


def _refuse(
  builder: tfds.core.DatasetBuilder, asked: dict[str, str], problem: str
) -> NoReturn:
  """Raises a DataError about splits that were left open."""
  flags = [f"--config.data.{k}_split" for k, v in asked.items() if not v]
  raise DataError(
    f"{builder.info.full_name} {problem}: set {' and '.join(flags)} too (it "
    f"has {', '.join(builder.info.splits)})"
  )


def _ranges(
  builder: tfds.core.DatasetBuilder, purpose: str, split: str
) -> list[_Range]:
  """Returns the ranges that a split reads."""
  flag = f"--config.data.{purpose}_split={split!r}"
  known = list(builder.info.splits)
  try:
    instructions = builder.info.splits[split].file_instructions
  except ValueError as error:
    base = split.partition("[")[0].partition("+")[0]
    hint = errors.suggest(base, known) or f" (there are: {', '.join(known)})"
    raise DataError(f"{flag}: {reason(error)}{hint}") from error
  if not instructions:
    raise DataError(f"{flag} holds no example of {builder.info.full_name}")
  for file in instructions:
    if not pathlib.Path(file.filename).exists():
      raise DataError(
        f"{file.filename} is missing: remove {builder.data_dir} and prepare "
        "the data set again"
      )
  return [(f.filename, f.skip, f.skip + f.take) for f in instructions]


def _overlap(one: list[_Range], other: list[_Range]) -> bool:
  """Returns whether two splits share a record."""
  return any(
    file == file2 and start < end2 and start2 < end
    for file, start, end in one
    for file2, start2, end2 in other
  )
