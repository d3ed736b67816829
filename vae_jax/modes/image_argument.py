"""Reads `--images`: images of the data set, or files.

`data:test:0-7` are the first eight of the test split, `data:validation:3,9-11`
four of another; `me.jpg` or `folder/*.png` are files. `|` joins several, as in
`data:test:0-3 | me.jpg`.
"""

import dataclasses
import glob
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from vae_jax.config import ConfigError
from vae_jax.data import photos, transform
from vae_jax.latents import trained_model

_DATA = "data:"
_SPLITS = ("train", "validation", "test")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
  """Images as the model's input.

  Attributes:
    image: pixels, binarised if the model was trained so.
    label: of each image; None if the data set has none, or for files.
    name: of each image, such as "test 0" or "photo.jpg".
  """

  image: UInt8[np.ndarray, "n h w c"]
  label: Integer[np.ndarray, "n ..."] | None
  name: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.image)


def select(
  model: trained_model.TrainedModel, text: str | None, default: str
) -> Selection:
  """Returns the images that --images names.

  Args:
    model: the model that receives them.
    text: value of the flag; None = the default.
    default: value without the flag; positions beyond the end of a small split
      are ignored.

  Raises:
    ConfigError: there is no such image, or a conditional model lacks a label.
  """
  value = default if text is None else text
  parts = [part.strip() for part in value.split("|")]
  if not all(parts):
    raise ConfigError(
      f"--images={text!r} names no images; it may be data:test:0-7, a file, or "
      "both as in 'data:test:0-3 | me.jpg'."
    )
  selections = [
    _of_split(model, part, strict=text is not None)
    if part.startswith(_DATA)
    else _of_files(model, part)
    for part in parts
  ]
  labels = [part.label for part in selections]
  known = all(label is not None for label in labels)
  return Selection(
    np.concatenate([part.image for part in selections]),
    np.concatenate(labels) if known else None,
    tuple(name for part in selections for name in part.name),
  )


def photo(
  model: trained_model.TrainedModel, content: bytes, name: str
) -> Selection:
  """Returns an uploaded picture.

  Args:
    model: the model that receives it.
    content: bytes of the file; they may be anything.
    name: of the file, for messages.

  Raises:
    ConfigError: the picture cannot be read, or the model is conditional.
  """
  _check_unconditional(model, name)
  geometry = _geometry(model)
  return _selection(model, [photos.read(content, name, **geometry)], [name])


def _of_split(
  model: trained_model.TrainedModel, part: str, *, strict: bool
) -> Selection:
  """Returns images of the data set; `strict` requires all to exist."""
  split, _, positions = part.removeprefix(_DATA).partition(":")
  if split not in _SPLITS:
    raise ConfigError(
      f"--images={part}: there is no split {split!r}; it must be one of "
      f"{', '.join(_SPLITS)}, as in data:test:0-7."
    )
  source = model.experiment.source(split)
  index = _positions(part, positions, len(source), strict=strict)
  data = source.fetch(index)
  return Selection(
    model.as_input(data["image"], index),
    data.get("label"),
    tuple(f"{split} {i}" for i in index),
  )


def _positions(
  part: str, text: str, count: int, *, strict: bool
) -> Integer[np.ndarray, " n"]:
  """Returns the positions in a list such as "3,9-11"."""
  positions = []
  for word in text.split(","):
    match = _RANGE.fullmatch(word.strip())
    if not match:
      raise ConfigError(
        f"--images={part}: {word.strip()!r} is no position; write "
        "data:test:0-7 or data:test:3,5,9-11."
      )
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first:
      raise ConfigError(f"--images={part}: {last} is before {first}.")
    if strict and last >= count:
      raise ConfigError(
        f"--images={part}: there is no image {last}; the split has {count:,}, "
        f"of which the last is {count - 1}."
      )
    # After the check, because a mistyped number could fill the memory.
    positions.extend(range(first, min(last, count - 1) + 1))
  return np.array(positions, np.int32)


def _of_files(model: trained_model.TrainedModel, pattern: str) -> Selection:
  """Returns the pictures of a path or a pattern, in order of name."""
  _check_unconditional(model, pattern)
  path = pathlib.Path(pattern).expanduser()
  # Names of files may look like patterns.
  paths = [path] if path.is_file() else []
  if not paths:
    matches = map(pathlib.Path, sorted(glob.glob(str(path))))
    paths = [match for match in matches if match.is_file()]
  if not paths:
    hint = f"; did you mean {pattern}/*?" if path.is_dir() else ""
    raise ConfigError(f"--images={pattern}: there is no such file{hint or '.'}")
  geometry = _geometry(model)
  image = [photos.load(path, **geometry) for path in paths]
  return _selection(model, image, [path.name for path in paths])


def _selection(
  model: trained_model.TrainedModel, image: list[np.ndarray], name: list[str]
) -> Selection:
  index = np.arange(len(image), dtype=np.int32)
  return Selection(model.as_input(np.stack(image), index), None, tuple(name))


def _geometry(model: trained_model.TrainedModel) -> dict[str, Any]:
  """Returns how the data set's images are prepared, as `photos` takes it."""
  data = model.config.data
  stored = tuple(data.stored_size)
  if not stored and not data.crop and not data.resize:
    stored = model.image_shape[:2]
  # A run of an earlier release did not note it.
  stored = stored or model.experiment.splits.stored_size
  return {
    "transform": transform.of_config(data),
    "shape": model.image_shape,
    "stored": stored if all(stored) else None,
  }


def _check_unconditional(model: trained_model.TrainedModel, name: str) -> None:
  condition = model.config.model.condition
  if condition != "none":
    raise ConfigError(
      f"{name} has no label, which a model with config.model.condition="
      f"{condition} needs for each image; choose images of the data set, such "
      "as data:test:0-7."
    )
