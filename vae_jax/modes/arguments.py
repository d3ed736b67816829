"""Reads the flags that modes share: --images, --latent and --steps.

--images: `data:test:0-7` are the first eight images of the test split,
`data:validation:3,9-11` four of another; `me.jpg` or `folder/*.png` are files.
`|` joins several, as in `data:test:0-3 | me.jpg`.

--latent: codes as numbers, `0.0,0.03`, or as a file of [d] or [n d] numbers:
`.npy`; `.npz` with an array `latent` or `codes`, or with one array; `.json`
with a list, or with an object that holds one as `latent`.
"""

import dataclasses
import glob
import json
import pathlib
import re
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import photos, transform
from vae_jax.latents.trained_model import TrainedModel

_DATA = "data:"
_SPLITS = ("train", "validation", "test")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_SUFFIXES = (".json", ".npy", ".npz")
_KEYS = ("latent", "codes")  # In a JSON object or an archive, first one wins.
_MAX_STEPS = 100  # Larger pictures cannot be viewed.


def check_steps(steps: int) -> None:
  """Raises a ConfigError unless the number of steps is from 2 to 100."""
  if not 2 <= steps <= _MAX_STEPS:
    raise ConfigError(f"--steps is {steps}; it must be from 2 to {_MAX_STEPS}.")


def check_unconditional(config: ConfigDict, mode: str) -> None:
  """Raises a ConfigError if the model needs labels, which codes have not."""
  condition = config.model.condition
  if condition != "none":
    raise ConfigError(
      f"--mode={mode} decodes codes alone; a model with config.model.condition="
      f"{condition} needs a label with each, which only images have; use "
      "--mode=reconstruct, interpolate or traverse."
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
  """Images as the model's input.

  Attributes:
    image: pixels, binarized if the model was trained so.
    label: of each image; None if the data set has none, or for files.
    name: of each image, such as "test 0" or "photo.jpg".
  """

  image: UInt8[np.ndarray, "n h w c"]
  label: Integer[np.ndarray, "n ..."] | None
  name: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.image)


def images(model: TrainedModel, text: str | None, default: str) -> Selection:
  """Returns the images that --images names, as input of a model.

  If the flag is not given (None) they are those of the default, of which
  positions beyond the end of a small split are ignored.

  Raises:
    ConfigError: there is no such image, or a conditional model lacks a label.
  """
  parts = [p.strip() for p in (default if text is None else text).split("|")]
  if not all(parts):
    raise ConfigError(
      f"--images={text!r} names no images; it may be data:test:0-7, a file, or "
      "both as in 'data:test:0-3 | me.jpg'."
    )
  chosen = [
    _of_split(model, part, strict=text is not None)
    if part.startswith(_DATA)
    else _of_files(model, part)
    for part in parts
  ]
  labels = [part.label for part in chosen]
  known = all(label is not None for label in labels)
  return Selection(
    np.concatenate([part.image for part in chosen]),
    np.concatenate(labels) if known else None,
    tuple(name for part in chosen for name in part.name),
  )


def photo(model: TrainedModel, content: bytes, name: str) -> Selection:
  """Returns an uploaded picture, whose bytes may be anything.

  Raises:
    ConfigError: the picture cannot be read, or the model is conditional.
  """
  _check_photo(model, name)
  image = photos.read(content, name, **_geometry(model))
  return _of_photos(model, [image], [name])


def _of_split(model: TrainedModel, part: str, *, strict: bool) -> Selection:
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
  image = model.as_input(data["image"], index)
  return Selection(
    image, data.get("label"), tuple(f"{split} {i}" for i in index)
  )


def _positions(
  part: str, text: str, count: int, *, strict: bool
) -> Integer[np.ndarray, " n"]:
  """Returns the positions in a list such as "3,9-11"."""
  positions = []
  for word in map(str.strip, text.split(",")):
    match = _RANGE.fullmatch(word)
    if not match:
      raise ConfigError(
        f"--images={part}: {word!r} is no position; write "
        "data:test:0-7 or data:test:3,5,9-11."
      )
    first, last = int(match[1]), int(match[2] or match[1])
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


def _of_files(model: TrainedModel, pattern: str) -> Selection:
  """Returns the pictures of a path or a pattern, in order of name."""
  _check_photo(model, pattern)
  path = pathlib.Path(pattern).expanduser()
  # Names of files may look like patterns.
  paths = [path] if path.is_file() else []
  if not paths:
    matches = map(pathlib.Path, sorted(glob.glob(str(path))))
    paths = [match for match in matches if match.is_file()]
  if not paths:
    hint = f"; did you mean {pattern}/*?" if path.is_dir() else "."
    raise ConfigError(f"--images={pattern}: there is no such file{hint}")
  geometry = _geometry(model)
  image = [photos.load(path, **geometry) for path in paths]
  return _of_photos(model, image, [path.name for path in paths])


def _of_photos(
  model: TrainedModel, image: list[np.ndarray], name: list[str]
) -> Selection:
  index = np.arange(len(image), dtype=np.int32)
  return Selection(model.as_input(np.stack(image), index), None, tuple(name))


def _geometry(model: TrainedModel) -> dict[str, Any]:
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


def _check_photo(model: TrainedModel, name: str) -> None:
  """Raises a ConfigError if the model needs labels, which photos have not."""
  condition = model.config.model.condition
  if condition != "none":
    raise ConfigError(
      f"{name} has no label, which a model with config.model.condition="
      f"{condition} needs for each image; choose images of the data set, such "
      "as data:test:0-7."
    )


def codes(text: str | None, dim: int) -> Float32[np.ndarray, "n {dim}"]:
  """Returns the codes, of `dim` numbers each, that --latent names.

  Raises:
    ConfigError: the text or file holds no finite numbers, or not `dim` each.
  """
  if text is None:
    raise ConfigError(
      f"--mode=decode needs --latent: {dim} numbers, as "
      f"{','.join(['0'] * min(dim, 3))}{',...' if dim > 3 else ''}, or a "
      f"file ({', '.join(_SUFFIXES)})."
    )
  path = pathlib.Path(text).expanduser()
  flag = f"--latent={text}"
  is_file = path.suffix in _SUFFIXES
  values = _of_file(path, flag) if is_file else _of_text(text, flag)
  wanted = f"{dim} for each code, as config.model.latent_dim says"
  try:
    numbers = np.asarray(values).astype(np.float64, casting="same_kind")
  except (TypeError, ValueError):
    raise ConfigError(f"{flag} are not only numbers, {wanted}.") from None
  shape = list(numbers.shape)
  if len(shape) not in (1, 2) or not numbers.size or shape[-1] != dim:
    count = shape[0] if len(shape) == 1 else shape
    raise ConfigError(f"{flag} are {count} numbers; it must be {wanted}.")
  with np.errstate(over="ignore"):
    numbers = numbers.reshape(-1, dim).astype(np.float32)
  if not np.isfinite(numbers).all():
    raise ConfigError(f"{flag} are not only finite numbers.")
  return numbers


def _of_text(text: str, flag: str) -> list[float]:
  try:
    return [float(word) for word in text.split(",")]
  except ValueError:
    raise ConfigError(
      f"{flag} is neither numbers, as 0.0,0.03, nor the path of a file "
      f"({', '.join(_SUFFIXES)})."
    ) from None


def _of_file(path: pathlib.Path, flag: str) -> Any:
  """Returns the content of a file, read without pickle."""
  try:
    if path.suffix == ".json":
      values = json.loads(path.read_text())
      return _chosen(values, flag) if isinstance(values, dict) else values
    with path.open("rb") as file:
      values = np.load(file, allow_pickle=False)
      is_array = isinstance(values, np.ndarray)
      return values if is_array else _chosen(values, flag)
  except OSError as error:
    why = error.strerror or "it is damaged"
    raise ConfigError(f"{flag} cannot be read: {why}.") from error
  except ConfigError:
    raise
  except Exception as error:
    # Damaged files raise errors without a common base, from zlib's to those of
    # Python's own tokenizer.
    raise ConfigError(
      f"{flag} cannot be read: it is no {path.suffix} file of numbers."
    ) from error


def _chosen(values: Any, flag: str) -> Any:
  names = list(values)
  for key in (*_KEYS, *names[: len(names) == 1]):
    if key in names:
      return values[key]
  raise ConfigError(
    f"{flag} holds no {' or '.join(_KEYS)}, but "
    f"{', '.join(names) or 'nothing'}."
  )
