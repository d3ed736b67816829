"""Checkpoints at an address, written by way of a folder of this machine.

Orbax makes a checkpoint whole by renaming its folder, which no object store
can do. So it writes to a local folder, from where each checkpoint is copied in
the background, the file that it writes last also being put last: without it a
checkpoint at an address is none.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures

from vae_jax import parallel, storage, transfer

# Orbax writes it to each checkpoint's own folder.
_LAST = "_CHECKPOINT_METADATA"
# The large part of a checkpoint.
_STATE = "state/"


def complete(folder: storage.Path) -> list[storage.Path]:
  """Returns the folders of the complete checkpoints, in no order."""
  # Orbax gives a checkpoint its number for a name when it is complete.
  found = _numbered(folder)
  if storage.is_remote(folder):
    found = [p for p in found if (p / _LAST).exists()]
  return found


@contextlib.contextmanager
def local(folder: storage.Path) -> Iterator[pathlib.Path]:
  """Yields a folder that is here already, or a copy that is removed again."""
  if not storage.is_remote(folder):
    yield folder
    return
  root = _root()
  root.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=root) as scratch:
    copy = pathlib.Path(scratch) / folder.name
    transfer.download(folder, copy)
    yield copy


class Mirror:
  """Keeps at an address what Orbax keeps in a local folder.

  Of what is there at the beginning, the local folder has only the little that
  tells Orbax what to remove. One process at a time may have one of an address.
  """

  def __init__(self, remote: storage.Path):
    """Makes the local folder anew: what it held has not become whole there."""
    digest = hashlib.sha256(os.fspath(remote).encode()).hexdigest()[:16]
    self.folder = _root() / digest
    self._remote = remote
    self._pool = futures.ThreadPoolExecutor(1)
    self._copying: futures.Future[None] | None = None
    shutil.rmtree(self.folder, ignore_errors=True)
    self.folder.mkdir(parents=True)
    self._without_state = set()
    # Nothing else may be removed: should another process own the address by
    # then, the rest is of its making.
    self._known = {step.name for step in _numbered(remote)}
    for step in complete(remote):
      self._without_state.add(step.name)
      for name in transfer.listing(step):
        if not name.startswith(_STATE):
          content = (step / name).read_bytes()
          storage.write_bytes(self.folder / step.name / name, content)

  def copy_after(self, saved: Callable[[], None]) -> None:
    """Copies what is new, and removes what is gone, once `saved` returns."""
    self.wait()
    self._copying = self._pool.submit(self._copy, saved)

  def wait(self) -> None:
    """Returns when all is at the address; raises what kept it from it."""
    copying, self._copying = self._copying, None
    if copying is not None:
      copying.result()

  def close(self) -> None:
    """Waits, and removes the local folder."""
    try:
      self.wait()
    finally:
      self._pool.shutdown()
      shutil.rmtree(self.folder, ignore_errors=True)

  def _copy(self, saved: Callable[[], None]) -> None:
    saved()
    kept = {step.name for step in complete(self.folder)}
    there = {step.name for step in complete(self._remote)}
    for name in sorted(kept - there - self._without_state, key=int):
      self._known.add(name)
      transfer.upload(self.folder / name, self._remote / name, last=_LAST)
    # With those of an upload that a kill cut short.
    for step in _numbered(self._remote):
      if step.name in self._known - kept:
        (step / _LAST).unlink(missing_ok=True)
        step.rmtree(missing_ok=True)


def _numbered(folder: storage.Path) -> list[storage.Path]:
  return [p for p in folder.glob("[0-9]*") if p.name.isdigit()]


def _root() -> pathlib.Path:
  return pathlib.Path(parallel.cache_root()) / "staging"
