"""Decoded images on disk, mapped into memory: decode once, read ever after.

A cache is a folder of two arrays and `meta.json`, which says what they were
made from and the CRC-32 of each block. It is renamed into place when it is
whole, and read and checked when a file's size or time is not as it was then.
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
import tqdm
from absl import logging
from jaxtyping import Integer
from ml_collections import config_dict

from vae_jax.data import datasets, errors
from vae_jax.runtime import devices, locks, storage, transfer

# Raised when the same records would give other bytes: another decoder, another
# resize, another layout of the folder.
_VERSION = 1
_BLOCK = 1 << 24  # Bytes under one checksum.
_CHUNK = 1 << 26  # Bytes of images decoded at a time.


class CachedSource:
  """A source whose decoded images lie in a file that is mapped into memory.

  Attributes:
    image_shape: (h, w, c) of every image.
    label_shape: () for a class id, (k,) for attributes, None without label.
    identity: all that the content depends on, as JSON.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self.identity = json.loads((folder / "meta.json").read_text())["identity"]
    self._arrays = {
      # A plain view: indexing a `memmap` takes five times as long.
      path.stem: np.load(path, mmap_mode="r").view(np.ndarray)
      for path in sorted(folder.glob("*.npy"))
    }
    self.image_shape = self._arrays["image"].shape[1:]
    label = self._arrays.get("label")
    self.label_shape = None if label is None else label.shape[1:]

  def __reduce__(self):
    # By name: the arrays themselves would be copied into every worker.
    return CachedSource, (self._folder,)

  def __len__(self) -> int:
    return len(self._arrays["image"])

  def fetch(
    self, indices: Integer[np.ndarray, " n"]
  ) -> dict[str, Integer[np.ndarray, "n ..."]]:
    """Reads examples.

    Args:
      indices: int[n], positions in the split, each in [0, len(self)).

    Returns:
      `image` uint8[n h w c] and, where there is one, `label` [n] or [n k].
    """
    return {k: np.take(v, indices, axis=0) for k, v in self._arrays.items()}


def open_source(
  source: datasets.Source, data: config_dict.ConfigDict
) -> datasets.Source:
  """Returns the source itself or its cache, as `data.cache` says."""
  return cached(source, data.cache_dir) if data.cache == "host" else source


def cached(source: datasets.Source, cache_dir: str = "") -> CachedSource:
  """Opens the cache of a source, making it if there is none.

  Args:
    source: where the examples come from.
    cache_dir: root of the caches; "": `data` under
      `parallel.cache_root()`. An address is a store that hosts share: what is
      mapped lies in that folder all the same, fetched from there, or made and
      put there.

  Returns:
    A source of the same examples.

  Raises:
    ConfigError: the address cannot be read.
    DataError: the folder cannot be written, or its disk is too small.
  """
  default = os.path.join(devices.cache_root(), "data")
  shared = storage.path(cache_dir) if storage.is_remote(cache_dir) else None
  root = pathlib.Path(default if shared else cache_dir or default).expanduser()
  # Through JSON, so that what is compared is what a file gives back.
  identity = json.loads(
    json.dumps({"version": _VERSION, "size": len(source), **source.identity})
  )
  digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
  readable = re.sub(r"\W+", "-", str(identity.get("dataset", "data")))
  folder = root / f"{readable}-{digest.hexdigest()[:16]}"
  store = shared / folder.name if shared else None
  if _is_whole(folder, identity):
    if store is not None:
      _share(folder, store)
    return CachedSource(folder)
  try:
    root.mkdir(parents=True, exist_ok=True)
    with locks.file_lock(
      root / f"{folder.name}.lock", f"decoding images into {folder}"
    ):
      # Its former owner may have made it while this one waited.
      if not _is_whole(folder, identity):
        if store is None or not _fetch(store, folder, identity):
          _make(source, folder, identity)
          if store is not None:
            _share(folder, store)
  except OSError as error:
    raise errors.DataError(
      f"decoded images cannot be kept in {root} ({error}): name a folder with "
      f"{_size(source) / 1e9:.2f} GB of room with --config.data.cache_dir, or "
      "do without with --config.data.cache=none"
    ) from error
  return CachedSource(folder)


def _fetch(
  store: storage.Path, folder: pathlib.Path, identity: dict[str, Any]
) -> bool:
  """Copies a cache that another host has put into a store, if it is whole."""
  meta = store / "meta.json"
  with storage.reaching("--config.data.cache_dir", store.parent):
    if not meta.exists():
      return False
  try:
    transfer.download(store, folder)
    if _is_whole(folder, identity):
      content = json.loads((folder / "meta.json").read_text())
      # Here the files have other times: without these the checksums would be
      # compared at each start.
      content["stamp"] = {
        name: _stamp(folder / name) for name in content["crc32"]
      }
      storage.write_json(folder / "meta.json", content)
      return True
    meta.unlink(missing_ok=True)
  except Exception as error:  # The clients' errors have no common base.
    logging.warning("%s could not be copied (%s): decoding.", store, error)
  return False


def _share(folder: pathlib.Path, store: storage.Path) -> None:
  """Puts a cache into a store, unless another host was faster."""
  try:
    if not (store / "meta.json").exists():
      transfer.upload(folder, store, last="meta.json")
  except Exception as error:  # The clients' errors have no common base.
    logging.warning("%s could not be put there (%s): going on.", store, error)


def _size(source: datasets.Source) -> int:
  """Bytes of all images."""
  return len(source) * int(np.prod(source.image_shape))


def _is_whole(folder: pathlib.Path, identity: dict[str, Any]) -> bool:
  """Whether the folder holds what `identity` says, bit for bit."""
  if not folder.exists():
    return False
  try:
    meta = json.loads((folder / "meta.json").read_text())
    stored = meta["crc32"]
    # Reading all of a large cache takes long where it is not in memory, and
    # whoever has changed a file has changed its time.
    sound = meta["identity"] == identity and all(
      _stamp(folder / name) == meta["stamp"].get(name)
      or _checksums(folder / name) == crcs
      for name, crcs in stored.items()
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    # Whatever a damaged meta.json may lead to.
    sound = False
  if not sound:
    logging.warning("the cache %s is damaged: making it again", folder)
  return sound


def _stamp(path: pathlib.Path) -> list[int]:
  """Size in bytes and time of the last change, in nanoseconds."""
  status = path.stat()
  return [status.st_size, status.st_mtime_ns]


def _checksums(path: pathlib.Path) -> list[int]:
  """CRC-32 of each block of a file; their number gives its length away."""
  content = np.memmap(path, np.uint8, "r")
  blocks = (content[i : i + _BLOCK] for i in range(0, len(content), _BLOCK))
  with futures.ThreadPoolExecutor(4) as pool:
    return list(pool.map(zlib.crc32, blocks))


def _make(
  source: datasets.Source, folder: pathlib.Path, identity: dict[str, Any]
) -> None:
  """Decodes all examples into a new folder and renames it into place."""
  free = shutil.disk_usage(folder.parent).free
  if free < _size(source):
    raise OSError(f"only {free / 1e9:.2f} GB are free")
  start = time.monotonic()
  prefix = f"{folder.name}.tmp-"
  for left_by_a_killed_process in folder.parent.glob(f"{prefix}*"):
    shutil.rmtree(left_by_a_killed_process)
  scratch = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
  try:
    _write(source, scratch)
    files = sorted(scratch.glob("*.npy"))
    meta = {
      "identity": identity,
      "crc32": {p.name: _checksums(p) for p in files},
      "stamp": {p.name: _stamp(p) for p in files},
    }
    with (scratch / "meta.json").open("w") as file:
      json.dump(meta, file)
      storage.flush(file)
    # A damaged one; whoever still has it mapped keeps its pages.
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  seconds = time.monotonic() - start
  logging.info(
    "decoded %d images in %.1f s into %s", len(source), seconds, folder
  )


def _write(source: datasets.Source, folder: pathlib.Path) -> None:
  """Writes image.npy and, where there are labels, label.npy."""
  step = max(1, _CHUNK // int(np.prod(source.image_shape)))
  labels = []
  # Written, not mapped: a full disk is an error here and a crash there.
  with (
    (folder / "image.npy").open("wb") as file,
    tqdm.tqdm(total=len(source), desc="decoding", unit=" images") as bar,
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
