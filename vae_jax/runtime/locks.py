"""Locks: of a file on this machine, and of an object in a store.

The kernel drops a file lock with its process. Object stores have no locks, so
that the owner of a lease rewrites an object every few seconds instead.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from absl import logging

from vae_jax.runtime import storage, watchdog


@contextlib.contextmanager
def file_lock(
  path: pathlib.Path, waiting_for: str | None = None
) -> Iterator[bool]:
  """Holds the lock file `path` inside the block.

  It waits for an owner, whose activity `waiting_for` names in the log; None: it
  does not wait.

  Yields:
    Whether the lock is held: some network file systems have no locks.

  Raises:
    BlockingIOError: another process owns it, and `waiting_for` is None.
  """
  # The file is never removed, because a third process could lock a new file
  # of the same name while the second one still holds the old one.
  with path.open("a") as file:
    is_held = True
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if waiting_for is None:
        raise
      logging.info("Another process is %s: waiting for it.", waiting_for)
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
      logging.warning("%s cannot be locked (%s): going on.", path, error)
      is_held = False
    yield is_held


class LeaseTimes(NamedTuple):
  """Times of a lease in seconds."""

  renew: float = 5.0  # between two renewals by the owner
  patience: float = 20.0  # without a renewal: the owner is taken for dead
  poll: float = 0.5  # between two reads while waiting for that
  settle: float = 1.0  # then the last of several starts at once is the owner


TIMES = LeaseTimes()


@contextlib.contextmanager
def lease(
  path: storage.Path, *, end: Callable[[int], None] = os._exit
) -> Iterator[None]:
  """Owns the remote object `path` inside the block, and then removes it.

  If the lease is lost (for example after this process was suspended), the
  process exits immediately, so that it cannot overwrite the files of the new
  owner. Clocks of different machines are never compared.

  Raises:
    BlockingIOError: another process owns it.
  """
  token = uuid.uuid4().hex
  _wait_for_dead_owner(path)
  try:
    storage.file_system(path).pipe_file(
      os.fspath(path), _content(token, 0), mode="create"
    )
  except FileExistsError as error:
    raise BlockingIOError(f"{path} has an owner") from error
  # Another process may have removed it, together with that of a dead owner.
  time.sleep(TIMES.settle)
  if _owner(_read(path)) != token:
    raise BlockingIOError(f"{path} has an owner")
  stopped = threading.Event()
  renewal = path, token, stopped, end
  thread = threading.Thread(target=_renew, args=renewal, daemon=True)
  thread.start()
  try:
    yield
  finally:
    stopped.set()
    thread.join()
    try:
      if _owner(_read(path)) == token:
        path.unlink(missing_ok=True)
    except Exception as error:  # Clients of object stores have no common base.
      # It must not hide the error that ends the block. The next owner waits.
      logging.warning("%s could not be removed (%s).", path, error)


def _wait_for_dead_owner(path: storage.Path) -> None:
  """Removes the object once it is known that its owner is dead."""
  first = _read(path)
  if first is None:
    return
  logging.info(
    "%s: another run is active or was killed; waiting %.0f s to see which.",
    path,
    TIMES.patience,
  )
  deadline = time.monotonic() + TIMES.patience
  while time.monotonic() < deadline:
    time.sleep(TIMES.poll)
    content = _read(path)
    if content is None:
      return
    if content != first:
      raise BlockingIOError(f"{path} has an owner")
  path.unlink(missing_ok=True)


def _renew(
  path: storage.Path,
  token: str,
  stopped: threading.Event,
  end: Callable[[int], None],
) -> None:
  count = 0
  while not stopped.wait(TIMES.renew):
    count += 1
    try:
      content = _read(path)
      if content is not None and _owner(content) != token:
        logging.error("%s has another owner; this run ends at once.", path)
        sys.stdout.flush()
        sys.stderr.flush()
        end(watchdog.EXIT_LOST)
        return
      storage.write_bytes(path, _content(token, count))
    except Exception as error:  # Clients of object stores have no common base.
      logging.warning("%s could not be renewed (%s).", path, error)


def _content(token: str, count: int) -> bytes:
  return json.dumps({"token": token, "count": count}).encode()


def _read(path: storage.Path) -> bytes | None:
  try:
    # One request, because the owner may write between two.
    return storage.file_system(path).cat_file(os.fspath(path))
  except FileNotFoundError:
    return None


def _owner(content: bytes | None) -> str | None:
  return None if content is None else json.loads(content)["token"]
