"""A data set by name: its splits as images and labels with random access."""

import dataclasses
import pathlib
from typing import NoReturn

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from ml_collections import config_dict

from vae_jax.config import reason
from vae_jax.data import (
  arrays,
  errors,
  folders,
  preparation,
  records,
  transform,
)
from vae_jax.data.source import (
  ALL,
  PURPOSES,
  Examples,
  First,
  Indices,
  Joined,
  Source,
  Splits,
  check_labels,
  read_labels,
)

__all__ = [
  "ALL", "PURPOSES", "Examples", "First", "Indices", "Joined", "Source",
  "Splits", "check_labels", "read_labels",
]  # fmt: skip
DataError = errors.DataError
_Range = tuple[str, int, int]  # File, first record, end.

_PROBED = 500  # Training images among which the largest value is looked for.
_DARK = 64  # Below it, the largest value is worth a warning.


def open_splits(
  data: config_dict.ConfigDict, given: arrays.Data | None = None
) -> Splits:
  """Opens the data set of the node `config.data`, preparing it first if it is
  not on disk.

  Args:
    data: the node.
    given: data from Python in place of those that `data.name` names.

  Raises:
    DataError: see `preparation.builder`, `folders` and `arrays`; or the split,
      label or image does not exist, or the crop is larger than the image.
  """
  splits = _open(data, given)
  if data.digest not in ("", splits.digest):
    logging.warning("%s has changed since the run began", splits.name)
  if data.range:
    return dataclasses.replace(splits, range=tuple(data.range))
  brightest = _brightest(splits.train)
  if brightest == 1 and splits.eight_bits:
    # Binary images that are stored as 0 and 1.
    data = data.copy_and_resolve_references()
    data.range = (0.0, 1.0)
    line = "pixels are 0 and 1 and become 0 and 255 (config.data.range=(0, 1))"
    splits = _open(data, given)
    return dataclasses.replace(
      splits, range=data.range, lines=(*splits.lines, line)
    )
  if brightest < _DARK:
    logging.warning(
      "The largest pixel of %d training images of %s is %d of 255: if it is "
      "meant to be white, set config.data.range to the values of both ends",
      min(_PROBED, len(splits.train)),
      splits.name,
      brightest,
    )
  return splits


def _brightest(source: Source) -> int:
  """Returns the largest pixel of some images; 255 as soon as one is bright."""
  count = min(_PROBED, len(source))
  rows = np.linspace(0, len(source) - 1, count).astype(int)
  brightest = 0
  try:
    for start in range(0, count, 20):
      image = source.fetch(rows[start : start + 20])["image"]
      brightest = max(brightest, int(image.max()))
      if brightest >= _DARK:
        return 255
  except DataError:  # Said when the image is needed.
    return 255
  return brightest


def _open(data: config_dict.ConfigDict, given: arrays.Data | None) -> Splits:
  """Opens the data set, with the range that the config names."""
  if given is not None:
    return arrays.given(given, data)
  for kind in (folders, arrays):
    if data.name.startswith(kind.PREFIX):
      return kind.open_splits(data)
  if data.name.startswith(arrays.IN_PYTHON):
    raise DataError(
      f"the data of this run, {data.name}, were given in Python; give them "
      "again, as data=... of vae_jax.train or vae_jax.load"
    )
  return _open_tfds(data)


def _open_tfds(data: config_dict.ConfigDict) -> Splits:
  """Opens a data set of tensorflow-datasets; it reads metadata only, and one
  image if the metadata do not contain the shape of the images."""
  builder = preparation.builder(data)
  features = dict(builder.info.features.items())
  image = features.get("image")
  if not isinstance(image, tfds.features.Image) or (
    image.np_dtype not in (np.uint8, np.uint16)
  ):
    raise DataError(
      f"{builder.info.full_name} has no feature `image` of 8-bit images, but "
      f"{', '.join(sorted(features))}: choose another --config.data.name"
    )
  strings = split_strings(builder, data)
  label = records.select_label(features, data.label)
  how = transform.of_config(data)
  sources = {
    name: records.RecordSource(
      builder, split, transform=how, label=label, num_threads=data.num_threads
    )
    for name, split in strings.items()
  }
  size = tuple(side or 0 for side in image.shape[:2])
  lines = (transform.proportions(how, size),) if all(size) else ()
  base, _, version = builder.info.full_name.rpartition("/")
  return Splits(
    **sources,
    name=f"{base}:{version}",
    image_shape=sources["train"].image_shape,
    label_names=label.names if label else None,
    split_strings=strings,
    stored_size=size,
    eight_bits=image.np_dtype == np.uint8,
    lines=tuple(filter(None, lines)),
  )


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
      # At least one, so that a few images suffice.
      start = end - min(10_000, max(1, share))
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
