"""Files in a folder, or at an address of an object store.

`path` returns the same kind of path for both. All writes are atomic: a file in
a folder is renamed into place; an object store's put is atomic by itself, but
it can neither rename nor append.
"""

import contextlib
import csv
import errno
import importlib
import io
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import fsspec
import numpy as np
from etils import epath

from vae_jax.config import ConfigError, reason

PathLike = epath.PathLike
# What `path` returns.
Path = pathlib.Path | epath.Path

# Schemes of addresses, and the package of each.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}
# If TensorFlow is installed, etils would prefer its file systems, which have no
# S3.
os.environ.setdefault("EPATH_USE_TF", "0")
# Errors of clients for a wrong address or missing access. All others may be
# transient.
_WRONG_INPUT = (FileNotFoundError, PermissionError, ValueError)
# Errors of this machine's own disk, not of a store.
_OWN_DISK = (errno.EDQUOT, errno.ENOSPC, errno.EROFS)


class Unreachable(Exception):
  """An object store failed, possibly for a while."""

  # EX_IOERR of sysexits.h.
  exit_code = 74


def is_remote(address: PathLike) -> bool:
  """Returns whether a path is a remote address."""
  return "://" in os.fspath(address)


def path(address: PathLike) -> Path:
  """Returns a folder, or an address such as s3://bucket/runs, as a path.

  Raises:
    ConfigError: the scheme is unknown, or its package is missing.
  """
  text = os.fspath(address)
  scheme, found, rest = text.partition("://")
  if not found:
    # Clients of stores take it for an address, pathlib for a folder.
    if re.match(r"[A-Za-z][\w+.-]+:/", text):
      raise ConfigError(f"{text} is no address: it needs two slashes, ://.")
    return pathlib.Path(text)
  if scheme not in _PACKAGES or not rest.strip("/"):
    raise ConfigError(
      f"{text} is no known address; allowed are folders and "
      f"{', '.join(f'{s}://BUCKET/...' for s in _PACKAGES)}."
    )
  try:
    importlib.import_module(_PACKAGES[scheme])
  except ImportError as error:
    raise ConfigError(
      f"{text} needs the package {_PACKAGES[scheme]}: `pip install "
      f'{_PACKAGES[scheme]}`, or `pip install -e ".[cloud]"` for gs:// and '
      "s3://."
    ) from error
  # Cached listings would hide files of other machines.
  for protocol in {scheme, {"gs": "gcs"}.get(scheme, scheme)}:
    settings = fsspec.config.conf.setdefault(protocol, {})
    settings["use_listings_cache"] = False
  return epath.Path(text)


def file_system(address: Path) -> fsspec.AbstractFileSystem:
  """Returns the client of a remote path's store."""
  return fsspec.core.url_to_fs(os.fspath(address))[0]


@contextlib.contextmanager
def reaching(flag: str, address: PathLike) -> Iterator[None]:
  """Converts client errors into `ConfigError`, if the address that a flag such
  as --workdir names or the access to it is wrong, or `Unreachable`.

  Errors of a folder are not converted.
  """
  with using(address):
    try:
      yield
    except json.JSONDecodeError:
      raise  # A damaged response.
    except _WRONG_INPUT as error:
      if isinstance(error, ConfigError) or not is_remote(address):
        raise
      raise ConfigError(
        f"{flag}={address} cannot be used ({type(error).__name__}: "
        f"{reason(error)}); check the address, and this machine's access to it."
      ) from error


@contextlib.contextmanager
def using(address: PathLike) -> Iterator[None]:
  """Converts client errors into `Unreachable`, but for those of a folder."""
  try:
    yield
  except (ConfigError, Unreachable, BlockingIOError, MemoryError):
    raise
  except Exception as error:  # Clients of object stores have no common base.
    own = isinstance(error, OSError) and error.errno in _OWN_DISK
    if own or not is_remote(address):
      raise
    raise Unreachable(
      f"{address} cannot be used now ({type(error).__name__}: "
      f"{reason(error)}); the same command may succeed later."
    ) from error


@contextlib.contextmanager
def parsing(address: PathLike, remedy: str) -> Iterator[None]:
  """Names a file whose content is damaged or foreign.

  Args:
    address: of the file that is read in the block.
    remedy: what to do about it.

  Raises:
    ConfigError: the block raised an error that is none of the disk.
  """
  try:
    yield
  except (ConfigError, Unreachable, OSError, MemoryError):
    raise
  except Exception as error:  # From zlib's to those of Python's own parsers.
    why = f"{type(error).__name__}: {reason(error)}"
    if "pickle" in why:
      why = "it holds a pickle, which is never opened"
    raise ConfigError(
      f"{address} is damaged, or of another kind ({why}); {remedy}."
    ) from error


def write_json(address: PathLike, content: Any) -> None:
  """Writes JSON atomically."""
  text = json.dumps(content, indent=2, allow_nan=False) + "\n"
  write_bytes(address, text.encode())


def write_bytes(address: PathLike, content: bytes) -> None:
  """Writes a file atomically, even through a loss of power."""
  target = path(address)
  if is_remote(target):
    with using(target):
      file_system(target).pipe_file(os.fspath(target), content)
    return
  target.parent.mkdir(parents=True, exist_ok=True)
  # In the same folder, because a rename is atomic within a file system only.
  # Not from `tempfile`, because other users cannot read such files.
  partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
  try:
    with writing(target), partial.open("wb") as file:
      file.write(content)
      # Otherwise the name may reach the disk before the content.
      flush(file)
    with writing(target):
      partial.replace(target)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def writing(address: PathLike) -> Iterator[None]:
  """Names a file in the errors of the disk that it is written to.

  Python names none if an open file cannot be written, as on a full disk.
  """
  try:
    yield
  except OSError as error:
    # NumPy writes less than it should, and has no number for it.
    error.errno = error.errno or errno.ENOSPC
    error.strerror = error.strerror or os.strerror(error.errno)
    error.filename = os.fspath(address)
    raise


class Appending:
  """A local file that grows; what is written is there, or an error is."""

  def __init__(self, address: PathLike):
    """Opens the file, which need not exist, nor its folder."""
    self._path = pathlib.Path(address)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    # Without a buffer, which would fail again when the file is closed.
    self._file = self._path.open("ab", buffering=0)

  def write(self, content: bytes) -> None:
    """Appends the content; raises an OSError that names the file."""
    with writing(self._path):
      # The last bytes of a disk are written first, and the error comes next.
      while content:
        content = content[self._file.write(content) :]

  def sync(self) -> None:
    """Waits until the content is on the disk."""
    with writing(self._path):
      flush(self._file)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def flush(file: IO[Any]) -> None:
  """Waits until the content of a local file is on the disk."""
  file.flush()
  os.fsync(file.fileno())


def write_arrays(address: PathLike, **arrays: np.ndarray) -> None:
  """Writes an `.npz` file atomically; equal arrays give equal bytes."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_bytes(address, buffer.getvalue())


def write_table(
  address: PathLike, columns: Mapping[str, Sequence[Any] | np.ndarray]
) -> None:
  """Writes columns of one length as CSV, atomically.

  Numbers are written with all their digits: reading them gives the same bits.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  # As Python's own numbers float32 would have digits that it has not.
  words = [
    [str(v) for v in values] if isinstance(values, np.ndarray) else values
    for values in columns.values()
  ]
  writer.writerows(zip(*words, strict=True))
  write_bytes(address, text.getvalue().encode())


def read_arrays(address: PathLike) -> Mapping[str, np.ndarray]:
  """Returns the arrays of an `.npz` file, by name; needs no pickle."""
  with np.load(io.BytesIO(path(address).read_bytes())) as file:
    return dict(file)
