"""Where files lie: a folder, or an address of an object store.

`path` makes one kind of path of both, and what is written here is seen whole
or not at all. In a folder that takes a rename; an object store's put is whole
by itself, while it knows neither renames nor appending.
"""

import contextlib
import errno
import importlib
import io
import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any

import fsspec
import numpy as np
from etils import epath

from vae_jax.config import ConfigError, reason

# What `path` returns.
Path = pathlib.Path | epath.Path

# Schemes of addresses, and the package that knows each.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}
# etils would prefer TensorFlow's file systems wherever TensorFlow is installed,
# which know no S3.
os.environ.setdefault("EPATH_USE_TF", "0")
# What clients raise when the address, or the access to it, is wrong. Anything
# else may pass.
_WRONG_INPUT = (FileNotFoundError, PermissionError, ValueError)
# What no store says, but this machine's own disk.
_OWN_DISK = (errno.EDQUOT, errno.ENOSPC, errno.EROFS)


class Unreachable(Exception):
  """An object store did not do what was asked; says which, and what it said."""

  # That of the shells for an input/output error.
  exit_code = 74


def is_remote(address: epath.PathLike) -> bool:
  """Returns whether an address is none of this machine's file systems."""
  return "://" in os.fspath(address)


def path(address: epath.PathLike) -> Path:
  """Returns a folder, or an address such as s3://bucket/runs, as a path.

  Raises:
    ConfigError: nothing is known of such addresses, or its package is missing.
  """
  text = os.fspath(address)
  scheme, found, rest = text.partition("://")
  if not found:
    return pathlib.Path(text)
  if scheme not in _PACKAGES or not rest.strip("/"):
    raise ConfigError(
      f"{text} is no address that is known; allowed are folders and "
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
  # Listings that are kept would hide what other machines write.
  for protocol in {scheme, {"gs": "gcs"}.get(scheme, scheme)}:
    settings = fsspec.config.conf.setdefault(protocol, {})
    settings["use_listings_cache"] = False
  return epath.Path(text)


def file_system(address: Path) -> fsspec.AbstractFileSystem:
  """Returns the client of a remote path's store."""
  return fsspec.core.url_to_fs(os.fspath(address))[0]


@contextlib.contextmanager
def reaching(flag: str, address: epath.PathLike) -> Iterator[None]:
  """Says in one sentence what keeps an object store from being used.

  Args:
    flag: that names the address, such as --workdir.
    address: a folder, of which nothing is said, or an address.

  Raises:
    ConfigError: in the place of an error of the store's client that says that
      the address or the access to it is wrong.
    Unreachable: in the place of any other.
  """
  with using(address):
    try:
      yield
    except json.JSONDecodeError:
      raise  # An answer that came damaged.
    except _WRONG_INPUT as error:
      if isinstance(error, ConfigError) or not is_remote(address):
        raise
      raise ConfigError(
        f"{flag}={address} cannot be used ({type(error).__name__}: "
        f"{reason(error)}); check the "
        "address, and this machine's access to it."
      ) from error


@contextlib.contextmanager
def using(address: epath.PathLike) -> Iterator[None]:
  """Says in one sentence that an object store fails, which may pass.

  Args:
    address: a folder, of which nothing is said, or an address.

  Raises:
    Unreachable: in the place of any error of the store's client.
  """
  try:
    yield
  except (ConfigError, Unreachable, BlockingIOError, MemoryError):
    raise
  except Exception as error:  # The clients' errors have no common base.
    own = isinstance(error, OSError) and error.errno in _OWN_DISK
    if own or not is_remote(address):
      raise
    raise Unreachable(
      f"{address} cannot be used now ({type(error).__name__}: "
      f"{reason(error)}); the same command may "
      "succeed later."
    ) from error


def write_json(address: epath.PathLike, content: Any) -> None:
  """Writes JSON so that a reader never sees half of it."""
  text = json.dumps(content, indent=2, allow_nan=False) + "\n"
  write_bytes(address, text.encode())


def write_bytes(address: epath.PathLike, content: bytes) -> None:
  """Writes a file so that a reader never sees half of it, not even after a
  loss of power.

  Raises:
    Unreachable: an object store does not take it.
  """
  target = path(address)
  if is_remote(target):
    with using(target):
      file_system(target).pipe_file(os.fspath(target), content)
    return
  target.parent.mkdir(parents=True, exist_ok=True)
  # In the same folder: a file is replaced in one step within a file system
  # only. Not from `tempfile`, whose files nobody else may read.
  partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
  try:
    with partial.open("wb") as file:
      file.write(content)
      # Else the name may come to the disk before what it names.
      flush(file)
    partial.replace(target)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def flush(file: IO[Any]) -> None:
  """Returns when all that was written to a local file is on the disk."""
  file.flush()
  os.fsync(file.fileno())


def write_arrays(address: epath.PathLike, **arrays: np.ndarray) -> None:
  """Writes an `.npz` file so that a reader never sees half of it.

  The same arrays give the same bytes.
  """
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  write_bytes(address, buffer.getvalue())


def read_arrays(address: epath.PathLike) -> Mapping[str, np.ndarray]:
  """Returns what `write_arrays` wrote; needs no pickle."""
  with np.load(io.BytesIO(path(address).read_bytes())) as file:
    return dict(file)
