"""Folders to and from object stores: whole, or not seen at all."""

import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent import futures

import tqdm
from fsspec import callbacks

from vae_jax.runtime import storage

Listing = dict[str, dict[str, int | str]]

_AT_ONCE = 4  # Files on their way.
# What stores say of a file's content. Checksums first: Google's ETag changes
# with what is noted beside the content too.
_TAGS = ("md5Hash", "crc32c", "generation", "ETag", "etag", "mtime")


def listing(remote: storage.Path) -> Listing:
  """Returns `size` in bytes and `tag` of each file under an address, by its
  name below it; a file that is written anew gets another tag."""
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
  """Returns the bytes of each file under a folder, by its name below it."""
  return {
    path.relative_to(folder).as_posix(): path.stat().st_size
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def download(remote: storage.Path, folder: pathlib.Path) -> None:
  """Copies all under an address into a new folder, renamed when it is whole.

  A folder of that name is replaced. Only one process may do so at a time.

  Raises:
    Unreachable: the store fails, or a file did not arrive as long as it is
      there.
    OSError: the disk is too small, or cannot be written.
  """
  with storage.using(remote):
    wanted = sizes(listing(remote))
  folder.parent.mkdir(parents=True, exist_ok=True)
  prefix = f"{folder.name}.tmp-"
  for left_by_a_killed_process in folder.parent.glob(f"{prefix}*"):
    shutil.rmtree(left_by_a_killed_process)
  free = shutil.disk_usage(folder.parent).free
  if free < sum(wanted.values()):
    raise OSError(
      errno.ENOSPC, f"only {free / 1e9:.2f} GB are free in {folder.parent}"
    )
  scratch = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
  system = storage.file_system(remote)
  try:
    with (
      storage.using(remote),
      tqdm.tqdm(
        total=sum(wanted.values()),
        desc=f"copying {remote}",
        unit="B",
        unit_scale=True,
      ) as bar,
    ):

      def fetch(name: str) -> None:
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = os.fspath(remote / name)
        system.get_file(source, str(target), callback=_Bytes(bar))

      _at_once(fetch, wanted)
    arrived = local_sizes(scratch)
    if arrived != wanted:
      wrong = sorted(k for k, v in wanted.items() if arrived.get(k) != v)
      raise storage.Unreachable(f"{remote / wrong[0]} did not arrive whole.")
    # A damaged one; whoever still has it mapped keeps its pages.
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def upload(folder: pathlib.Path, remote: storage.Path, *, last: str) -> None:
  """Copies all under a folder to an address.

  Args:
    folder: local.
    remote: where to.
    last: name of the file that is put when all others are there; readers take
      what lies there for whole by it alone.
  """
  system = storage.file_system(remote)

  def put(name: str) -> None:
    system.put_file(str(folder / name), os.fspath(remote / name))

  _at_once(put, (n for n in local_sizes(folder) if n != last))
  put(last)


def rename(folder: storage.Path, target: storage.Path) -> None:
  """Gives a folder, here or at an address, another name."""
  if not storage.is_remote(folder):
    folder.rename(target)
    return
  system = storage.file_system(folder)
  # File by file: a client that copies all looks for objects that are folders.
  for name in listing(folder):
    system.cp_file(os.fspath(folder / name), os.fspath(target / name))
  folder.rmtree()


def _at_once(function: Callable[[str], None], names: Iterable[str]) -> None:
  with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    list(pool.map(function, names))


class _Bytes(callbacks.Callback):
  """Shows the bytes that have arrived."""

  def __init__(self, bar: tqdm.tqdm):
    super().__init__()
    self._bar = bar

  def relative_update(self, inc: int = 1) -> None:
    """Adds to what has arrived."""
    self._bar.update(inc)
