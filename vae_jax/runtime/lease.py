"""One writer at an address: an object store has no locks.

The owner keeps an object with a random token and a number that it raises every
few seconds. Who comes later watches it: while it changes its owner lives, and
when it has not for a while its owner was killed. Only the watcher's own clock
is read, so that clocks of different machines may differ.
"""

import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from absl import logging

from vae_jax.runtime import storage, transport, watchdog

_RENEW = 5.0  # Seconds between two signs of life.
_PATIENCE = 20.0  # Seconds without one after which an owner is dead.
_POLL = 0.5  # Seconds between two looks.
# Seconds in which of two that write at once the later one is seen, where a
# store does not refuse it.
_SETTLE = 1.0


@contextlib.contextmanager
def hold(path: storage.Path) -> Iterator[None]:
  """Owns the remote object `path` until the block ends, and removes it then.

  Should another take it over all the same, as after a pause of this process
  that was longer than others' patience, this process ends at once: whatever it
  would still write could be over what the other has written.

  Raises:
    BlockingIOError: another process owns it.
  """
  token = uuid.uuid4().hex
  _wait_for_dead(path)
  try:
    storage.file_system(path).pipe_file(
      os.fspath(path), _sign(token, 0), mode="create"
    )
  except FileExistsError as error:
    raise BlockingIOError(f"{path} was taken") from error
  time.sleep(_SETTLE)
  if _token(_read(path)) != token:
    raise BlockingIOError(f"{path} was taken")
  ending = threading.Event()
  renewal = threading.Thread(
    target=_renew, args=(path, token, ending), daemon=True
  )
  renewal.start()
  try:
    yield
  finally:
    ending.set()
    renewal.join()
    try:
      if _token(_read(path)) == token:
        path.unlink(missing_ok=True)
    except Exception as error:  # The clients' errors have no common base.
      # How the block ended says more, and whoever comes next takes it over.
      logging.warning("%s could not be removed (%s).", path, error)


def _wait_for_dead(path: storage.Path) -> None:
  """Returns when nobody owns the object; removes what a dead owner left."""
  first = _read(path)
  if first is None:
    return
  logging.info(
    "%s: another run is at work here, or was killed; waiting up to %.0f s to "
    "see which.",
    path,
    _PATIENCE,
  )
  end = time.monotonic() + _PATIENCE
  while time.monotonic() < end:
    time.sleep(_POLL)
    now = _read(path)
    if now is None:
      return
    if now != first:
      raise BlockingIOError(f"{path} has a living owner")
  path.unlink(missing_ok=True)


def _renew(path: storage.Path, token: str, ending: threading.Event) -> None:
  count = 0
  while not ending.wait(_RENEW):
    count += 1
    try:
      found = _read(path)
      if found is not None and _token(found) != token:
        _leave(path)
        return
      storage.write_bytes(path, _sign(token, count))
    except Exception as error:  # The clients' errors have no common base.
      logging.warning("%s could not be renewed (%s).", path, error)


def _leave(path: storage.Path) -> None:
  """Ends this process without another word to storage."""
  sentence = f"{path} has another owner now: this run leaves at once, as it is."
  logging.error("%s", sentence)
  try:
    found = watchdog.current()
    if found is not None:
      found.leave(sentence, transport.EXIT_LOST)
    sys.stdout.flush()
    sys.stderr.flush()
  finally:
    os._exit(transport.EXIT_LOST)


def _sign(token: str, count: int) -> bytes:
  return json.dumps({"token": token, "count": count}).encode()


def _read(path: storage.Path) -> bytes | None:
  try:
    # In one request: between two the owner may have signed anew.
    return storage.file_system(path).cat_file(os.fspath(path))
  except FileNotFoundError:
    return None


def _token(content: bytes | None) -> str | None:
  return None if content is None else json.loads(content)["token"]
