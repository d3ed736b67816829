"""Checkpoints at an address, written by way of a folder of this machine.

Orbax makes a checkpoint whole by renaming its folder, which no object store
can do. So it writes to a local folder, from where each checkpoint is copied in
the background, the file that it writes last also being put last: without it a
checkpoint at an address is none.
"""

import contextlib
import fcntl
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TextIO

from vae_jax.runtime import devices, storage, transfer

# Orbax writes it to each checkpoint's own folder.
_LAST = "_CHECKPOINT_METADATA"
# The large part of a checkpoint.
_STATE = "state/"
# Of `scratch`.
_LOCK = ".lock"


def complete(folder: storage.Path) -> list[storage.Path]:
  """Returns the folders of the complete checkpoints, in no order."""
  # Orbax gives a checkpoint its number for a name when it is complete.
  found = _numbered(folder)
  if storage.is_remote(folder):
    found = [p for p in found if (p / _LAST).exists()]
  return found


@contextlib.contextmanager
def scratch() -> Iterator[pathlib.Path]:
  """Yields an empty folder of this machine, removed at the end.

  It holds a lock, which the kernel drops with its process: those without one
  are of killed processes, and go when the next one is made.
  """
  root = pathlib.Path(devices.cache_root()) / "staging"
  root.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    # One at a time: a new folder has no lock yet.
    with root.with_name("staging.lock").open("a") as turn:
      if _locked(turn, fcntl.LOCK_EX):
        _sweep(root)
      outer = pathlib.Path(tempfile.mkdtemp(dir=root))
      lock = stack.enter_context((outer / _LOCK).open("a"))
      _locked(lock, fcntl.LOCK_EX)
    # Before the lock is dropped.
    stack.callback(shutil.rmtree, outer, ignore_errors=True)
    folder = outer / "content"
    folder.mkdir()
    yield folder


def _sweep(root: pathlib.Path) -> None:
  for folder in root.iterdir():
    # Its owner may remove it at the same time.
    with contextlib.suppress(OSError), (folder / _LOCK).open("a") as lock:
      if _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(folder, ignore_errors=True)


def _locked(file: TextIO, how: int) -> bool:
  """Returns whether it is locked now; not if another process has it locked, or
  on a file system that knows no locks."""
  try:
    fcntl.flock(file, how)
  except OSError:
    return False
  return True


@contextlib.contextmanager
def local(folder: storage.Path) -> Iterator[pathlib.Path]:
  """Yields a folder that is here already, or a copy that is removed again."""
  if not storage.is_remote(folder):
    yield folder
    return
  with scratch() as outer:
    copy = outer / folder.name
    transfer.download(folder, copy)
    yield copy


class Mirror:
  """Keeps at an address what Orbax keeps in a local folder.

  Of what is there at the beginning, the local folder has only the little that
  tells Orbax what to remove. One process at a time may have one of an address.
  """

  def __init__(self, remote: storage.Path):
    """Makes the local folder, with the little that it has at first."""
    self._stack = contextlib.ExitStack()
    self.folder = self._stack.enter_context(scratch())
    self._remote = remote
    self._pool = futures.ThreadPoolExecutor(1)
    self._copying: futures.Future[None] | None = None
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
      self._stack.close()

  def _copy(self, saved: Callable[[], None]) -> None:
    saved()
    kept = {step.name for step in complete(self.folder)}
    there = {step.name for step in complete(self._remote)}
    for name in sorted(kept - there - self._without_state, key=int):
      self._known.add(name)
      # What an upload that a kill cut short has left would be mixed with it.
      _remove(self._remote / name)
      transfer.upload(self.folder / name, self._remote / name, last=_LAST)
    # With those of an upload that a kill cut short.
    for step in _numbered(self._remote):
      if step.name in self._known - kept:
        _remove(step)


def _remove(step: storage.Path) -> None:
  # While it is removed it is none.
  (step / _LAST).unlink(missing_ok=True)
  step.rmtree(missing_ok=True)


def _numbered(folder: storage.Path) -> list[storage.Path]:
  return [p for p in folder.glob("[0-9]*") if p.name.isdigit()]
