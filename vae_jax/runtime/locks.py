"""One process at a time prepares a data set or builds a cache."""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def exclusive(path: pathlib.Path, waiting_for: str) -> Iterator[None]:
  """Holds the lock file `path`, waiting for its owner if there is one.

  The kernel drops the lock with its process, so that a killed owner blocks
  nobody. The empty file stays: removing it would let a third process lock a
  new file of the same name while the second still holds the old one.

  Args:
    path: the lock file, made if missing; its folder must exist.
    waiting_for: what the owner is doing, for the log.

  Yields:
    Nothing, once the lock is held.
  """
  with path.open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logging.info("another process is %s: waiting for it", waiting_for)
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
      # Some network file systems know no locks. The results are renamed into
      # place whole, so that the worst case there is work done twice.
      logging.warning("%s cannot be locked (%s): going on", path, error)
    yield
