"""Checkpoints at an address, written by way of a local folder.

TensorStore, as Orbax 0.12.8 calls it, writes to s3:// addresses as if they
were local folders, and Orbax completes a checkpoint by renaming its folder.
So Orbax writes to a local folder, and each checkpoint is copied in the
background. The copy ends with the file `LAST`, and is complete if that exists.
"""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent import futures

from vae_jax.runtime import devices, locks, storage, transfer

# Orbax writes it to the folder of each checkpoint.
LAST = "_CHECKPOINT_METADATA"
# The large part of a checkpoint.
_STATE = "state/"
_LOCK = ".lock"


def complete(folder: storage.Path) -> list[storage.Path]:
  """Returns the folders of the complete checkpoints, in no order."""
  # Orbax renames a complete checkpoint to its step.
  steps = _numbered(folder)
  if storage.is_remote(folder):
    steps = [p for p in steps if (p / LAST).exists()]
  return steps


@contextlib.contextmanager
def scratch() -> Iterator[pathlib.Path]:
  """Yields an empty local folder, and removes it at the end.

  It also removes the folders of killed processes, whose locks the kernel has
  dropped.
  """
  root = pathlib.Path(devices.cache_root()) / "staging"
  root.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    # A new folder has no lock yet, so that one process at a time makes one.
    with locks.file_lock(
      root.with_name("staging.lock"), "making a folder"
    ) as is_held:
      for left in root.iterdir() if is_held else ():
        # Unless another process owns it, or is removing it.
        with contextlib.suppress(OSError), locks.file_lock(left / _LOCK) as own:
          if own:
            shutil.rmtree(left, ignore_errors=True)
      outer = pathlib.Path(tempfile.mkdtemp(dir=root))
      stack.enter_context(locks.file_lock(outer / _LOCK))
    # Before the lock is dropped.
    stack.callback(shutil.rmtree, outer, ignore_errors=True)
    folder = outer / "content"
    folder.mkdir()
    yield folder


@contextlib.contextmanager
def local(folder: storage.Path) -> Iterator[pathlib.Path]:
  """Yields a local folder as it is, or a temporary copy of a remote one."""
  if not storage.is_remote(folder):
    yield folder
    return
  with scratch() as outer:
    copy = outer / folder.name
    transfer.download(folder, copy)
    yield copy


class Mirror:
  """Keeps the checkpoints of a local folder at an address, too.

  The local folder starts with all files but the state of each checkpoint at
  the address, from which Orbax decides which one to remove. One process at a
  time may have a mirror of an address. Its `folder` is the local one.
  """

  def __init__(self, remote: storage.Path):
    """Makes the local folder."""
    self._stack = contextlib.ExitStack()
    self.folder = self._stack.enter_context(scratch())
    self._remote = remote
    self._pool = futures.ThreadPoolExecutor(1)
    self._copying: futures.Future[None] | None = None
    # Only these may be removed, because another process may own the address
    # by then.
    self._known = {step.name for step in _numbered(remote)}
    self._without_state = {step.name for step in complete(remote)}
    for step in self._without_state:
      for name in transfer.listing(remote / step):
        if not name.startswith(_STATE):
          content = (remote / step / name).read_bytes()
          storage.write_bytes(self.folder / step / name, content)

  def copy_after(self, saved: Callable[[], None]) -> None:
    """Starts a copy of the changes, once `saved` returns."""
    self.wait()
    self._copying = self._pool.submit(self._copy, saved)

  def is_done(self) -> bool:
    """Returns whether no copy is under way."""
    return self._copying is None or self._copying.done()

  def wait(self) -> None:
    """Waits for the copy, and raises its error."""
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
    here = {step.name for step in complete(self.folder)}
    there = {step.name for step in complete(self._remote)}
    for name in sorted(here - there - self._without_state, key=int):
      self._known.add(name)
      # A killed upload of the same step may have left files.
      _remove(self._remote / name)
      transfer.upload(self.folder / name, self._remote / name, last=LAST)
    for step in _numbered(self._remote):
      if step.name in self._known - here:
        _remove(step)


def _remove(step: storage.Path) -> None:
  # First the file without which the checkpoint is incomplete.
  (step / LAST).unlink(missing_ok=True)
  step.rmtree(missing_ok=True)


def _numbered(folder: storage.Path) -> list[storage.Path]:
  return [p for p in folder.glob("[0-9]*") if p.name.isdigit()]
