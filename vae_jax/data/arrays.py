"""Arrays: `arrays:FILE.npz`, `arrays:FOLDER` of `.npy` files, or in Python."""

import hashlib
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped
from ml_collections import config_dict

from vae_jax.config import reason
from vae_jax.data import errors, labels, source, transform

PREFIX = "arrays:"
IN_PYTHON = "python:"
_KEYS = (
  "image and label, or train_image, train_label, validation_image, ..., "
  "test_label"
)
# The names of the arrays in Keras' files.
_KERAS = {
  f"{letter}_{part}": f"{purpose}_{kind}"
  for letter, kind in {"x": "image", "y": "label"}.items()
  for part, purpose in zip(
    ("train", "val", "test"), source.PURPOSES, strict=True
  )
}
Data = np.ndarray | Mapping[str, Any] | source.Source | source.Splits


class ArraySource:
  """Examples in memory, or mapped into it, as they are; see `Source`."""

  def __init__(
    self, image: Shaped[np.ndarray, "n h w c"], label: labels.Column | None
  ):
    self._image = image
    self.labels = None if label is None else label.values
    self.image_shape = image.shape[1:]
    self.label_shape = None if label is None else label.values.shape[1:]
    self.in_memory = True
    content = hashlib.sha256(np.ascontiguousarray(image).data)
    content.update(f"{image.shape} {image.dtype}".encode())
    if label is not None:
      content.update(label.values.tobytes())
    self.fingerprint = {"dataset": "arrays", "content": content.hexdigest()}

  def __len__(self) -> int:
    return len(self._image)

  def fetch(self, indices: source.Indices) -> dict[str, np.ndarray]:
    """Reads examples; see `Source.fetch`."""
    batch = {"image": self._image[indices]}
    if self.labels is not None:
      batch["label"] = self.labels[indices]
    return batch

  @property
  def is_ready(self) -> bool:
    """Whether the images are those that models read."""
    return self._image.dtype == np.uint8 and self.image_shape[2] in (1, 3)


def open_splits(data: config_dict.ConfigDict) -> source.Splits:
  """Opens the arrays that `data.name` names.

  Raises:
    DataError: a file is missing, holds Python objects, or has an array that is
      not as described in `given`.
  """
  splits = "arrays named train_image, validation_image, ..."
  path = source.place(data, PREFIX, "file", splits)
  return given(_read(path), data, f"{PREFIX}{path}")


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays in a file or folder by name, without pickle."""
  files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
  arrays = {}
  try:
    for file in files:
      if file.suffix == ".npy":
        name = file.stem if path.is_dir() else "image"
        arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        continue
      # Opened here, because numpy leaves a damaged file open.
      with file.open("rb") as opened, np.load(opened) as loaded:
        arrays |= {name: loaded[name] for name in loaded.files}
  except (
    *(OSError, EOFError, ValueError, KeyError, TypeError),
    *(zipfile.BadZipFile, zlib.error),
  ) as error:
    raise errors.DataError(
      f"{file} cannot be read as arrays ({reason(error)}); it must be written "
      "by numpy.savez or numpy.save, without Python objects"
    ) from error
  return arrays


def given(
  arrays: Data, data: config_dict.ConfigDict, name: str = ""
) -> source.Splits:
  """Returns arrays or sources as a data set.

  Images are [n h w] or [n h w c], with 1 to 4 channels, the even ones opacity:
  bits, 8 or 16 bits, or real numbers in [0, 1]. Labels are integers [n], words
  [n], or bits of attributes [n k].

  Args:
    arrays: an array of images; {"image": ..., "label": ...}; the same with
      prefixes `train_`, `validation_` and `test_`; a source; {"train": source,
      ...}; or the splits. `label_names` may name classes or attributes. What
      has no validation or test examples gives a tenth to each, by a hash of
      the position.
    data: the node `config.data`.
    name: of the data; "" = after their content.

  Raises:
    DataError: an array is not as described.
  """
  if isinstance(arrays, source.Splits):
    return arrays
  if isinstance(arrays, source.Source):
    arrays = {"train": arrays}
  elif not isinstance(arrays, Mapping):
    arrays = {"image": arrays}
  how, where = transform.of_config(data), name or "data"
  rest = {_KERAS.get(name, name): value for name, value in arrays.items()}
  parts, lines, eight_bits = {}, [], True
  names = rest.pop("label_names", None)
  columns = _columns(rest, where, names)
  for purpose in source.PURPOSES:
    prefix = "" if purpose == "train" and "image" in rest else f"{purpose}_"
    part, image = rest.pop(purpose, None), rest.pop(f"{prefix}image", None)
    if image is not None:
      image = _images(np.asarray(image), f"{where}: {prefix}image", how.range)
      column = columns.get(f"{prefix}label")
      if column is not None and len(column.values) != len(image):
        raise errors.DataError(
          f"{where} has {len(image)} images, but {len(column.values)} labels"
        )
      part = ArraySource(image, column)
      eight_bits &= image.dtype == np.uint8
      kind = f"{image.dtype} {list(image.shape)}"
      lines += [
        f"{purpose}: {kind}, {column.describe() if column else 'no labels'}"
      ]
    if part is None:
      continue
    ready = how == transform.Transform(background=how.background)
    if not (ready and getattr(part, "is_ready", True)):
      part = source.Transformed(part, how)
    parts[purpose] = part
  if rest or "train" not in parts:
    found = ", ".join(map(str, arrays)) or "nothing"
    raise errors.DataError(f"{where} has {found}; what is expected are {_KEYS}")
  train = parts["train"]
  shapes = {(part.image_shape, part.label_shape) for part in parts.values()}
  if len(shapes) > 1:
    raise errors.DataError(
      f"{where} has splits with several shapes of images and labels: "
      f"{', '.join(map(str, shapes))}"
    )
  empty = [purpose for purpose in source.PURPOSES[1:] if purpose not in parts]
  if empty:
    positions = list(map(str, range(len(train))))
    for purpose, rows in source.divide_by_hash(positions, empty, where).items():
      parts[purpose] = source.Subset(train, rows)
  return source.Splits(
    **parts,
    name=name or f"{IN_PYTHON}{source.digest(parts)}",
    digest=source.digest(parts),
    image_shape=train.image_shape,
    label_names=next((c.names for c in columns.values()), None),
    split_strings=source.same_names(),
    stored_size=getattr(train, "stored_size", train.image_shape[:2]),
    eight_bits=eight_bits,
    lines=tuple(lines),
  )


def _columns(
  arrays: dict[str, Any], where: str, names: Any
) -> dict[str, labels.Column]:
  """Removes the labels from arrays, and returns them, checked, by name."""
  found = {
    key: np.asarray(arrays.pop(key))
    for key in [k for k in arrays if k.rpartition("_")[2] == "label"]
  }
  if found and all(label.dtype.kind == "U" for label in found.values()):
    # Together, so that a word is the same class in each split.
    words = labels.classes(np.concatenate(list(found.values())).tolist())
    ends = np.cumsum([len(label) for label in found.values()])[:-1]
    ids = dict(zip(found, np.split(words.values, ends), strict=True))
    return {k: labels.Column(v, words.names) for k, v in ids.items()}
  names = None if names is None else tuple(map(str, names))
  return {
    key: labels.Column(_labels(label, f"{where}: {key}"), names)
    for key, label in found.items()
  }


def _images(
  image: np.ndarray, where: str, limits: transform.Range
) -> Shaped[np.ndarray, "n h w c"]:
  """Returns images with a channel axis, after checking them."""
  if image.ndim == 3:
    image = image[..., None]
  kind = f"{where} is {image.dtype} {list(image.shape)}"
  if image.ndim == 4 and image.shape[3] > 4 and image.shape[1] <= 4:
    raise errors.DataError(
      f"{kind}, with channels first; they must be last: image.transpose(0, 2, "
      "3, 1)"
    )
  if image.ndim != 4 or not 1 <= image.shape[3] <= 4 or 0 in image.shape:
    raise errors.DataError(
      f"{kind}; it must be [n, height, width] or [n, height, width, channels] "
      "with 1 to 4 channels"
    )
  if (
    image.dtype not in (np.uint8, np.uint16, np.bool_)
    and image.dtype.kind != "f"
  ):
    raise errors.DataError(
      f"{kind}; it must be uint8, uint16, bool, or real numbers in [0, 1]"
    )
  if image.dtype.kind == "f":
    low, high = (-np.inf, np.inf) if limits else (0, 1)
    fits = np.isfinite(image) & (image >= low) & (image <= high)
    if not fits.all():
      at = tuple(map(int, np.argwhere(~fits)[0]))
      raise errors.DataError(
        f"{where}{list(at)} is {image[at]:g}; real numbers must lie in [0, 1], "
        "or --config.data.range=LOW,HIGH must name those that become 0 and 255"
      )
  return image


def _labels(label: np.ndarray, where: str) -> Integer[np.ndarray, "n ..."]:
  """Returns class ids [n] or attributes [n k], after checking them."""
  if label.ndim not in (1, 2):
    raise errors.DataError(
      f"{where} has shape {list(label.shape)}; it must be [n], or [n, k] of k "
      "attributes"
    )
  label = labels.integers(label, where)
  if label.ndim == 1:
    return label
  wrong = np.argwhere((label != 0) & (label != 1))
  if len(wrong):
    at = list(map(int, wrong[0]))
    raise errors.DataError(
      f"{where}{at} is {label[tuple(at)]}; attributes are 0 or 1"
    )
  return label.astype(np.uint8)
