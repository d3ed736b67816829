"""Pictures in a folder: `folder:PATH`.

Splits are the folders `train`, `validation` and `test` where they are, else
parts of a hash of the path. Labels are a column of `metadata.csv`, or the
folders that hold the pictures.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np
import PIL
from absl import logging
from ml_collections import config_dict

from vae_jax.data import errors, labels, photos, records, source, transform
from vae_jax.runtime import bars, devices, storage

PREFIX = "folder:"
_ENDS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SPLITS = {"valid": "validation", "val": "validation"} | {
  purpose: purpose for purpose in source.PURPOSES
}
_NAMED = 10  # Unreadable files that a message names.


@dataclasses.dataclass(frozen=True)
class _File:
  """A picture: its path below the root, shape, type and digest, or its
  defect."""

  path: str
  shape: tuple[int, int, int]
  dtype: str
  digest: str
  defect: str = ""


class FolderSource:
  """The pictures of one split, decoded when they are fetched; see `Source`."""

  def __init__(
    self,
    root: pathlib.Path,
    files: Sequence[_File],
    label: labels.Column | None,
    how: transform.Transform,
    shape: tuple[int, int, int],
    num_threads: int,
  ):
    self._root, self._files, self._how = root, files, how
    self._label, self._num_threads = label, num_threads
    # Gray pictures among colored ones get the channels of those.
    self._channels = max(transform.color_channels(f.shape[2]) for f in files)
    self.image_shape = shape
    self.label_shape = None if label is None else label.values.shape[1:]
    self.labels = None if label is None else label.values
    self.names = tuple(file.path for file in files)
    content = hashlib.sha256()
    for file in files:
      content.update(f"{file.path}\0{file.digest}\0".encode())
    if label is not None:
      content.update(label.values.tobytes())
    self.fingerprint = {
      "dataset": f"folder-{root.name}",
      "files": content.hexdigest(),
      "decoder": f"pillow {PIL.__version__}",
      "channels": self._channels,
      **how.fingerprint(),
    }

  def __len__(self) -> int:
    return len(self._files)

  def fetch(self, indices: source.Indices) -> source.Examples:
    """Reads and decodes pictures; see `Source.fetch`.

    Raises:
      DataError: a file is gone or has changed.
    """
    batch = {"image": np.empty((len(indices), *self.image_shape), np.uint8)}
    if self.labels is not None:
      batch["label"] = self.labels[indices]

    def fill(start: int, end: int) -> None:
      for row in range(start, end):
        path = self._root / self._files[indices[row]].path
        batch["image"][row] = self._how(_decode(path), self._channels)

    with photos.quiet():
      records.spread(fill, len(indices), self._num_threads)
    return batch


def open_splits(data: config_dict.ConfigDict) -> source.Splits:
  """Opens the folder that `data.name` names.

  Each file is decoded once, to find those that cannot be read; what was found
  is kept in `devices.cache_root()`.

  Raises:
    DataError: there is no picture, some cannot be read and `data.unreadable` is
      "stop", sizes differ, or labels are missing.
  """
  splits = "folders named train, validation and test"
  root = source.place(data, PREFIX, "folder", splits)
  paths, lines = _paths(root)
  files, broken = _readable(root, _inspect(root, paths), data.unreadable)
  how = transform.of_config(data)
  label, spare = _labels(root, [file.path for file in files], data.label)
  shape, size = _shape(root, files, how)
  opened = {}
  for purpose, rows in _divide(files, root).items():
    part = [files[i] for i in rows]
    chosen = label and dataclasses.replace(label, values=label.values[rows])
    opened[purpose] = FolderSource(
      root, part, chosen, how, shape, data.num_threads
    )
  lines = _table(files, label) + broken + lines + spare
  lines += [transform.proportions(how, f.shape[:2]) for f in files][:1]
  return source.Splits(
    **opened,
    name=f"{PREFIX}{root}",
    digest=source.digest(opened),
    image_shape=shape,
    label_names=label and label.names,
    split_strings=source.same_names(),
    stored_size=size or (0, 0),
    eight_bits=all(file.dtype == "uint8" for file in files),
    lines=tuple(filter(None, lines)),
  )


def _paths(root: pathlib.Path) -> tuple[list[str], list[str]]:
  """Returns the paths of pictures below the root, in an order that no locale
  changes, and a line about other files."""
  paths, seen, others = [], set(), collections.Counter()
  for folder, names, files in os.walk(root, followlinks=True):
    names[:] = [n for n in names if not n.startswith((".", "__"))]
    # A link may lead to a folder above it.
    if (real := os.path.realpath(folder)) in seen:
      names.clear()
      continue
    seen.add(real)
    for name in files:
      if name.startswith(".") or name == labels.METADATA:
        continue
      end = os.path.splitext(name)[1].lower()
      if end in _ENDS:
        paths.append(os.path.relpath(os.path.join(folder, name), root))
      else:
        others[end or "without an ending"] += 1
  counts = ", ".join(f"{n:,} {end}" for end, n in sorted(others.items()))
  if not paths:
    raise errors.DataError(
      f"{root} has no pictures (files that end in {', '.join(_ENDS)}), but "
      f"{counts or 'no other files either'}"
    )
  lines = [f"other files are not read: {counts}"] if others else []
  return sorted(paths, key=os.fsencode), lines


def _decode(path: pathlib.Path) -> np.ndarray:
  try:
    content = path.read_bytes()
  except OSError as error:
    raise errors.DataError(
      f"{path} cannot be read: {error.strerror}"
    ) from error
  return photos.decode(content, str(path), photos.FOLDER_FORMATS)


def _stamp(path: pathlib.Path) -> str:
  """Returns size and time of a file; "" for a broken link."""
  try:
    stat = path.stat()
  except OSError:
    return ""
  return f"{stat.st_size} {stat.st_mtime_ns}"


def _inspect(root: pathlib.Path, paths: list[str]) -> list[_File]:
  """Returns what is in each file, decoding those that are new or changed."""
  keys = [_stamp(root / path) for path in paths]
  name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
  index = pathlib.Path(devices.cache_root()) / "folders" / f"{name}.json"
  try:
    known = json.loads(index.read_text())
  except (OSError, ValueError):
    known = {}

  def look(path: str) -> dict[str, Any]:
    entry = {"shape": [0, 0, 0], "dtype": "", "digest": "", "defect": ""}
    try:
      content = (root / path).read_bytes()
      entry["digest"] = hashlib.sha256(content).hexdigest()[:16]
      picture = photos.decode(content, path, photos.FOLDER_FORMATS)
      entry |= {"shape": list(picture.shape), "dtype": str(picture.dtype)}
    except (OSError, errors.DataError) as error:
      entry["defect"] = str(error).removeprefix(f"{path} ")
    return entry

  def is_new(path: str, key: str) -> bool:
    return known.get(path, {}).get("key") != key

  new = [p for p, key in zip(paths, keys, strict=True) if is_new(p, key)]
  if new:
    with (
      photos.quiet(),
      futures.ThreadPoolExecutor() as pool,
      bars.Bar(len(new), "inspecting", "images") as bar,
    ):
      for path, entry in zip(new, pool.map(look, new), strict=True):
        known[path] = entry
        bar.update(1)
    known = {
      path: {**known[path], "key": key}
      for path, key in zip(paths, keys, strict=True)
    }
    try:
      storage.write_json(index, known)
    except OSError as error:
      logging.warning("%s cannot be written (%s).", index, error)
  found = [{**known[path], "path": path} for path in paths]
  for entry in found:
    del entry["key"]
    entry["shape"] = tuple(entry["shape"])
  return [_File(**entry) for entry in found]


def _readable(
  root: pathlib.Path, files: list[_File], unreadable: str
) -> tuple[list[_File], list[str]]:
  """Returns the files without defects, and a line about the others."""
  broken = [file for file in files if file.defect]
  good = [file for file in files if not file.defect]
  if not broken:
    return good, []
  named = "; ".join(f"{f.path} {f.defect}" for f in broken[:_NAMED])
  more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
  text = (
    f"{len(broken)} of {len(files)} pictures in {root} cannot be read: "
    f"{named}{more}"
  )
  if unreadable == "stop" or not good:
    raise errors.DataError(
      f"{text}; remove them, or leave them out with "
      "--config.data.unreadable=skip"
    )
  return good, [f"left out: {text}"]


def _divide(files: list[_File], root: pathlib.Path) -> dict[str, list[int]]:
  """Returns the positions of the files of each split."""
  parts = {purpose: [] for purpose in source.PURPOSES}
  others = []
  for position, file in enumerate(files):
    top, *below = pathlib.PurePath(file.path).parts
    inside = top in _SPLITS and below
    (parts[_SPLITS[top]] if inside else others).append(position)
  if any(parts.values()) and others:
    raise errors.DataError(
      f"{root} has folders of splits, and {len(others)} pictures beside them, "
      f"{files[others[0]].path} first: move them into one of the folders"
    )
  # What has no folder of its own is taken from `train`, or from all files.
  rest = parts["train"] or others
  empty = [p for p in source.PURPOSES[1:] if not parts[p]]
  # Systems differ in how they write an accent.
  names = [unicodedata.normalize("NFC", files[i].path) for i in rest]
  chosen = source.divide_by_hash(names, empty, str(root))
  for purpose, rows in chosen.items():
    parts[purpose] = [rest[i] for i in rows]
  return parts


def _class_folder(path: str) -> str:
  """Returns the topmost folder of a picture below that of its split, or ""."""
  parts = pathlib.PurePath(path).parts[:-1]
  below = parts[1:] if parts and parts[0] in _SPLITS else parts
  return below[0] if below else ""


def _labels(
  root: pathlib.Path, paths: list[str], wanted: str
) -> tuple[labels.Column | None, list[str]]:
  """Returns the labels of pictures: a column of `metadata.csv`, or folders; and
  a line about rows of the former."""
  table, lines = labels.read_metadata(root, paths)
  if wanted and table is None:
    raise errors.DataError(
      f"--config.data.label={wanted!r}, but {root} has no {labels.METADATA}"
    )
  if table:
    column = labels.select(table, wanted, f"{root}/{labels.METADATA}")
    if column is not None:
      return column, lines
  classes = [_class_folder(path) for path in paths]
  if all(classes) and len(set(classes)) > 1:
    return labels.classes(classes), lines
  return None, lines


def _shape(
  root: pathlib.Path, files: list[_File], how: transform.Transform
) -> tuple[tuple[int, int, int], tuple[int, int] | None]:
  """Returns the shape of all images, and the size of all files, None if their
  sizes vary."""
  channels = max(transform.color_channels(f.shape[2]) for f in files)
  shapes = {}
  for file in files:
    try:
      shapes.setdefault(how.shape((*file.shape[:2], channels)), file)
    except errors.DataError as error:
      raise errors.DataError(f"{root / file.path}: {error}") from error
  if len(shapes) > 1:
    one, other = list(shapes.values())[:2]
    raise errors.DataError(
      f"pictures in {root} have {len(shapes)} sizes, such as "
      f"{one.shape[0]}x{one.shape[1]} ({one.path}) and "
      f"{other.shape[0]}x{other.shape[1]} ({other.path}): make them equal with "
      "--config.data.resize=64, which squashes, or --config.data.crop before it"
    )
  sizes = {file.shape[:2] for file in files}
  return next(iter(shapes)), sizes.pop() if len(sizes) == 1 else None


def _table(files: list[_File], label: labels.Column | None) -> list[str]:
  """Returns lines that describe the pictures."""
  sizes = sorted({f.shape[:2] for f in files}, key=lambda s: (s[0] * s[1], s))
  ends = dict.fromkeys(f"{h}x{w}" for h, w in (sizes[0], sizes[-1]))
  several = f", {len(sizes):,} sizes" if len(sizes) > 1 else ""
  channels = " or ".join(map(str, sorted({f.shape[2] for f in files})))
  return [
    f"{len(files):,} images of {' to '.join(ends)} pixels (height x width"
    f"{several}), {channels} channels",
    label.describe() if label else "no labels",
  ]
