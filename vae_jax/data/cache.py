"""Cache of decoded images on disk, mapped into memory.

A cache is a folder with two arrays and `meta.json`, which holds the fingerprint
of the source and the CRC-32 of each block. It is written under another name
and renamed when it is complete. Checksums are compared only when a file's size
or time of change differs from that in `meta.json`.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import zlib
from concurrent import futures
from typing import Any

import numpy as np
from absl import logging
from ml_collections import config_dict

from vae_jax.data import datasets, errors
from vae_jax.runtime import bars, devices, locks, storage, transfer

# Incremented when the same records would give other bytes, because the decoder,
# the resize or the layout of the folder has changed.
_VERSION = 2
BLOCK = 1 << 24  # Bytes per checksum.
CHUNK = 1 << 26  # Bytes of images per fetch.
_KEY = "identity"  # Name of the fingerprint in `meta.json`.


class CachedSource:
  """A source of decoded images in a memory-mapped file; see `Source`."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    meta = json.loads((folder / "meta.json").read_text())
    self.fingerprint = meta[_KEY]
    self._arrays = {
      # A plain view, because indexing a `memmap` takes five times as long.
      path.stem: np.load(path, mmap_mode="r").view(np.ndarray)
      for path in sorted(folder.glob("*.npy"))
    }
    self.image_shape = self._arrays["image"].shape[1:]
    label = self._arrays.get("label")
    self.labels = label
    self.label_shape = None if label is None else label.shape[1:]

  def __reduce__(self):
    # Pickled by name, because a pickle of the arrays would copy them.
    return CachedSource, (self._folder,)

  def __len__(self) -> int:
    return len(self._arrays["image"])

  def fetch(self, indices: datasets.Indices) -> datasets.Examples:
    """Reads examples; see `Source.fetch`."""
    return {k: np.take(v, indices, axis=0) for k, v in self._arrays.items()}


def open_source(
  source: datasets.Source, data: config_dict.ConfigDict
) -> datasets.Source:
  """Returns the cache of a source if `data.cache` is "host", else itself."""
  if data.cache == "none" or getattr(source, "in_memory", False):
    return source
  return cached(source, data.cache_dir)


def cached(source: datasets.Source, cache_dir: str = "") -> CachedSource:
  """Opens the cache of a source, writing it first if there is none.

  Args:
    source: the examples to cache.
    cache_dir: root of the caches; "" = `data` under `devices.cache_root()`. A
      remote URL names a store that hosts share: the cache is mapped from the
      default folder, and is downloaded from the store, or written and uploaded
      to it.

  Raises:
    ConfigError: the URL cannot be read.
    DataError: the folder cannot be written, or its disk is too small.
  """
  default = os.path.join(devices.cache_root(), "data")
  shared = storage.path(cache_dir) if storage.is_remote(cache_dir) else None
  root = pathlib.Path(default if shared else cache_dir or default).expanduser()
  key = {"version": _VERSION, "size": len(source), **source.fingerprint}
  # Through JSON, because it is compared with the content of a file.
  key = json.loads(json.dumps(key))
  digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
  readable = re.sub(r"\W+", "-", str(key.get("dataset", "data")))
  folder = root / f"{readable}-{digest.hexdigest()[:16]}"
  store = shared / folder.name if shared else None
  if _is_intact(folder, key):
    if store is not None:
      _upload(folder, store)
    return CachedSource(folder)
  try:
    root.mkdir(parents=True, exist_ok=True)
    lock = root / f"{folder.name}.lock"
    with locks.file_lock(lock, f"decoding images into {folder}"):
      # Another process may have written it while this one waited.
      if not _is_intact(folder, key):
        if store is None or not _download(store, folder, key):
          _make(source, folder, key)
          if store is not None:
            _upload(folder, store)
  except OSError as error:
    raise errors.DataError(
      f"decoded images cannot be stored in {root} ({error}): set "
      f"--config.data.cache_dir to a folder with {_size(source) / 1e9:.2f} GB "
      "of free space, or disable the cache with --config.data.cache=none"
    ) from error
  return CachedSource(folder)


def _download(
  store: storage.Path, folder: pathlib.Path, key: dict[str, Any]
) -> bool:
  """Copies a cache from the store if it is intact; returns whether it was."""
  meta = store / "meta.json"
  with storage.reaching("--config.data.cache_dir", store.parent):
    if not meta.exists():
      return False
  try:
    transfer.download(store, folder)
    if _is_intact(folder, key):
      content = json.loads((folder / "meta.json").read_text())
      # The copies have other times, and would be checked at each start.
      content["stamp"] = {
        name: _stamp(folder / name) for name in content["crc32"]
      }
      storage.write_json(folder / "meta.json", content)
      return True
    meta.unlink(missing_ok=True)
  except Exception as error:  # The clients' errors have no common base.
    logging.warning("%s could not be downloaded: %s", store, error)
  return False


def _upload(folder: pathlib.Path, store: storage.Path) -> None:
  """Copies a cache to the store, unless another host already has."""
  try:
    if not (store / "meta.json").exists():
      transfer.upload(folder, store, last="meta.json")
  except Exception as error:  # The clients' errors have no common base.
    logging.warning("%s could not be uploaded: %s", store, error)


def _size(source: datasets.Source) -> int:
  """Returns the bytes of all images."""
  return len(source) * int(np.prod(source.image_shape))


def _is_intact(folder: pathlib.Path, key: dict[str, Any]) -> bool:
  """Returns whether a folder holds the cache of `key`, undamaged."""
  if not folder.exists():
    return False
  try:
    meta = json.loads((folder / "meta.json").read_text())
    intact = meta[_KEY] == key and all(
      _stamp(folder / name) == meta["stamp"].get(name)
      or _checksums(folder / name) == crcs
      for name, crcs in meta["crc32"].items()
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    # Errors that a damaged meta.json can cause.
    intact = False
  if not intact:
    logging.warning("the cache %s is damaged and is written again", folder)
  return intact


def _stamp(path: pathlib.Path) -> list[int]:
  """Returns size in bytes and time of the last change in nanoseconds."""
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def _checksums(path: pathlib.Path) -> list[int]:
  """Returns the CRC-32 of each block of a file."""
  content = np.memmap(path, np.uint8, "r")
  blocks = (content[i : i + BLOCK] for i in range(0, len(content), BLOCK))
  with futures.ThreadPoolExecutor(4) as pool:
    return list(pool.map(zlib.crc32, blocks))


def _make(
  source: datasets.Source, folder: pathlib.Path, key: dict[str, Any]
) -> None:
  """Decodes all examples into a temporary folder and renames it."""
  free = shutil.disk_usage(folder.parent).free
  if free < _size(source):
    raise OSError(f"only {free / 1e9:.2f} GB are free")
  start = time.monotonic()
  prefix = f"{folder.name}.tmp-"
  for stale in folder.parent.glob(f"{prefix}*"):  # From a killed process.
    shutil.rmtree(stale)
  scratch = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
  try:
    _write(source, scratch)
    files = sorted(scratch.glob("*.npy"))
    meta = {
      _KEY: key,
      "crc32": {p.name: _checksums(p) for p in files},
      "stamp": {p.name: _stamp(p) for p in files},
    }
    storage.write_json(scratch / "meta.json", meta)
    # A damaged cache; processes that have it mapped keep its pages.
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  seconds = time.monotonic() - start
  logging.info(
    "decoded %d images in %.1f s into %s", len(source), seconds, folder
  )


def _write(source: datasets.Source, folder: pathlib.Path) -> None:
  """Writes image.npy and, if the source has labels, label.npy."""
  step = max(1, CHUNK // int(np.prod(source.image_shape)))
  labels = []
  # Written, not mapped, because a full disk kills a process that maps.
  with (
    (folder / "image.npy").open("wb") as file,
    bars.Bar(len(source), "decoding", "images") as bar,
  ):
    header = np.lib.format.header_data_from_array_1_0(
      np.empty((0, *source.image_shape), np.uint8)
    )
    header["shape"] = (len(source), *source.image_shape)
    np.lib.format.write_array_header_1_0(file, header)
    for first in range(0, len(source), step):
      batch = source.fetch(np.arange(first, min(first + step, len(source))))
      batch["image"].tofile(file)
      if "label" in batch:
        labels.append(batch["label"])
      bar.update(len(batch["image"]))
    storage.flush(file)
  if labels:
    with (folder / "label.npy").open("wb") as file:
      np.save(file, np.concatenate(labels))
      storage.flush(file)
