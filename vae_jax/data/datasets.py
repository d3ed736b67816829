"""A data set by name: its splits, as images and labels with random access."""

import collections
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


@runtime_checkable
class Source(Protocol):
  """Examples by position: what a split and its cache have in common.

  Attributes:
    image_shape: (h, w, c) of every image.
    label_shape: () for a class id, (k,) for attributes, None without label.
    fingerprint: JSON-able description of everything that determines the
      examples; the key of their cache.
  """

  image_shape: tuple[int, int, int]
  label_shape: tuple[int, ...] | None
  fingerprint: dict[str, Any]

  def __len__(self) -> int:
    """The number of examples."""

  def fetch(
    self, indices: Integer[np.ndarray, " n"]
  ) -> dict[str, Integer[np.ndarray, "n ..."]]:
    """`image` uint8[n h w c] and, if any, `label`, at positions `indices`."""


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

  def fetch(
    self, indices: Integer[np.ndarray, " n"]
  ) -> dict[str, Integer[np.ndarray, "n ..."]]:
    """Reads examples; see `Source.fetch`."""
    return self._source.fetch(indices)


@dataclasses.dataclass(frozen=True)
class Splits:
  """An open data set.

  Attributes:
    train: examples to fit the model to.
    validation: examples to choose between models with.
    test: examples to report results on.
    name: with config and version, as `data.name` takes it.
    image_shape: (h, w, c), after crop, resize and grayscale.
    label_names: names of the classes, or of the attributes, or None.
    split_strings: split of the data set behind each of the three sources.
  """

  train: Source
  validation: Source
  test: Source
  name: str
  image_shape: tuple[int, int, int]
  label_names: tuple[str, ...] | None
  split_strings: dict[str, str]


def open_splits(data: config_dict.ConfigDict) -> Splits:
  """Opens a data set, preparing it first where it is not on disk.

  Only metadata is read, and one image where the data set does not state the
  shape of its images.

  Args:
    data: the `data` node of the config.

  Returns:
    The three splits.

  Raises:
    DataError: see `preparation.builder`; or there is no such split, label or
      image, or the crop is larger than the image.
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
  None where it does not state them, or they differ.

  Args:
    data: the `data` node of the config.
  """
  height, width, _ = preparation.builder(data).info.features["image"].shape
  return None if None in (height, width) else (height, width)


def split_strings(
  builder: tfds.core.DatasetBuilder, data: config_dict.ConfigDict
) -> dict[str, str]:
  """Decides what to train, validate and test on.

  What the config leaves open is the data set's own `validation` (or `valid`)
  and `test` split; where it has none, the last examples of its `train` split,
  at most 10,000: a tenth of it to test, a fifth of it, before those, to
  validate, and the rest to train.

  Args:
    builder: the data set.
    data: `train_split`, `validation_split` and `test_split`, in the split
      language of tensorflow-datasets, "" for automatic.

  Returns:
    The splits of `train`, `validation` and `test`.

  Raises:
    DataError: a split is unknown or empty, or one left open shares examples
      with another.
  """
  asked = {k: data[f"{k}_split"] for k in ("train", "validation", "test")}
  sizes = {k: v.num_examples for k, v in builder.info.splits.items()}
  chosen = divide(sizes, asked)
  if not all(chosen.values()):
    _complain(builder, asked, "has no split `train` to divide")
  parts = {k: _parts(builder, k, split) for k, split in chosen.items()}
  for one, other, meant in (
    # Whoever writes both may overlap them, to see a model overfit.
    ("train", "validation", asked["train"] and asked["validation"]),
    ("train", "test", asked["train"] and asked["test"]),
    ("validation", "test", asked["validation"]),
  ):
    if not meant and _overlap(parts[one], parts[other]):
      _complain(
        builder,
        asked,
        f"would share examples between {one} ({chosen[one]}) and {other} "
        f"({chosen[other]})",
      )
  return chosen


def divide(sizes: dict[str, int], asked: dict[str, str]) -> dict[str, str]:
  """Fills in the splits that were left open, as `split_strings` says.

  Args:
    sizes: number of examples of each split of the data set.
    asked: split for each purpose, "" where it was left open.

  Returns:
    `asked` without "", unless there is no `train` split to take them from.
  """
  chosen = dict(asked)
  for purpose, own in (
    ("validation", ("validation", "valid")),
    ("test", ("test",)),
  ):
    chosen[purpose] = asked[purpose] or next((s for s in own if s in sizes), "")
  if "train" not in sizes:
    return chosen
  total = end = sizes["train"]
  for purpose, share in (("test", total // 10), ("validation", total // 5)):
    if not chosen[purpose]:
      start = end - min(10_000, share)
      chosen[purpose] = f"train[{start}:{'' if end == total else end}]"
      end = start
  whole = "train" if end == total else f"train[:{end}]"
  return {**chosen, "train": chosen["train"] or whole}


def _complain(
  builder: tfds.core.DatasetBuilder, asked: dict[str, str], trouble: str
) -> NoReturn:
  """Raises the error about splits that were left open."""
  flags = [f"--config.data.{k}_split" for k, v in asked.items() if not v]
  raise DataError(
    f"{builder.info.full_name} {trouble}: set {' and '.join(flags)} too (it "
    f"has {', '.join(builder.info.splits)})"
  )


def _parts(
  builder: tfds.core.DatasetBuilder, purpose: str, split: str
) -> list[tuple[str, int, int]]:
  """The (file, first record, past the last record) that a split reads."""
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
  for part in instructions:
    if not pathlib.Path(part.filename).exists():
      raise DataError(
        f"{part.filename} is missing: remove {builder.data_dir} and prepare "
        "the data set again"
      )
  return [(p.filename, p.skip, p.skip + p.take) for p in instructions]


def _overlap(
  one: list[tuple[str, int, int]], other: list[tuple[str, int, int]]
) -> bool:
  """Whether two splits share a record."""
  ranges = collections.defaultdict(list)
  for file, start, end in one:
    ranges[file].append((start, end))
  return any(
    start < end2 and start2 < end
    for file, start2, end2 in other
    for start, end in ranges[file]
  )
