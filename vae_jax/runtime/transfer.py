"""Atomic copies of folders to and from object stores."""

import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent import futures

from fsspec import callbacks

from vae_jax.runtime import bars, storage

Listing = dict[str, dict[str, int | str]]

_AT_ONCE = 4  # Files in transfer.
# Fields of stores that change with a file's content. Checksums first, because
# Google's ETag changes with the metadata, too.
_TAGS = ("md5Hash", "crc32c", "generation", "ETag", "etag", "mtime")


def listing(remote: storage.Path) -> Listing:
  """Returns the files under an address, by their names relative to it.

  Each has a `size` in bytes and a `tag` that changes with its content.
  """
  system = storage.file_system(remote)
  # Clients list names without the scheme.
  root = system._strip_protocol(os.fspath(remote)).rstrip("/") + "/"
  return {
    name.removeprefix(root): {
      "size": info["size"],
      "tag": str(next((info[t] for t in _TAGS if info.get(t)), None)),
    }
    for name, info in system.find(root, detail=True).items()
    if info["type"] == "file" and name.startswith(root)
  }


def sizes(files: Listing) -> dict[str, int]:
  """Returns the bytes of each file of a listing."""
  return {name: entry["size"] for name, entry in files.items()}


def local_sizes(folder: pathlib.Path) -> dict[str, int]:
  """Returns the bytes of each file under a folder, by its relative name."""
  return {
    path.relative_to(folder).as_posix(): path.stat().st_size
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def download(remote: storage.Path, folder: pathlib.Path) -> None:
  """Copies all files under an address into a folder, atomically.

  A folder of that name is replaced. One process at a time may call it.

  Raises:
    Unreachable: the store failed, or a file has arrived with another size.
    OSError: the disk is too small, or cannot be written.
  """
  with storage.using(remote):
    expected = sizes(listing(remote))
  folder.parent.mkdir(parents=True, exist_ok=True)
  prefix = f"{folder.name}.tmp-"
  for left in folder.parent.glob(f"{prefix}*"):  # By a killed process.
    shutil.rmtree(left)
  free = shutil.disk_usage(folder.parent).free
  if free < sum(expected.values()):
    raise OSError(
      errno.ENOSPC, f"only {free / 1e9:.2f} GB are free in {folder.parent}"
    )
  scratch = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
  system = storage.file_system(remote)
  try:
    with (
      storage.using(remote),
      bars.Bar(sum(expected.values()), f"copying {remote}", "bytes") as bar,
    ):
      received = callbacks.Callback()
      received.relative_update = bar.update

      def fetch(name: str) -> None:
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = os.fspath(remote / name)
        system.get_file(source, str(target), callback=received)

      _at_once(fetch, expected)
    arrived = local_sizes(scratch)
    if arrived != expected:
      wrong = sorted(k for k, v in expected.items() if arrived.get(k) != v)
      raise storage.Unreachable(f"{remote / wrong[0]} is incomplete here.")
    # A damaged copy; processes that have it mapped keep its pages.
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def upload(folder: pathlib.Path, remote: storage.Path, *, last: str) -> None:
  """Copies all files under a folder to an address; the file `last`, written
  after all others, marks the copy as complete."""
  system = storage.file_system(remote)

  def put(name: str) -> None:
    system.put_file(str(folder / name), os.fspath(remote / name))

  _at_once(put, (n for n in local_sizes(folder) if n != last))
  put(last)


def rename(folder: storage.Path, target: storage.Path) -> None:
  """Renames a folder, here or at an address."""
  if not storage.is_remote(folder):
    folder.rename(target)
    return
  system = storage.file_system(folder)
  # File by file, because clients look for folders when they copy recursively.
  for name in listing(folder):
    system.cp_file(os.fspath(folder / name), os.fspath(target / name))
  folder.rmtree()


def _at_once(function: Callable[[str], None], names: Iterable[str]) -> None:
  with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    list(pool.map(function, names))
