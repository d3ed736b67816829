"""Signals that ask a run to end: save first, then leave with a code of its own.

Machines are taken away with SIGTERM and some seconds' notice; people press
Ctrl-C.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

# Seconds within which two signals are one.
_ONE_SIGNAL = 1.0
# Seconds from a second signal to the end, whatever the main thread hangs in.
_LAST_SECONDS = 5.0
_came: list[int] | None = None


class Interrupted(Exception):
  """A signal ended the run after a checkpoint; the same command goes on."""

  # Distinct from failure, so that a launcher knows to start it again.
  exit_code = 75
  # All processes of a job end so at the same step.
  together = True


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
  """Yields whether SIGTERM or Ctrl-C came; a second one acts at once.

  Inside another one it yields what that one hears.
  """
  global _came
  if _came is not None:
    heard = _came
    yield lambda: bool(heard)
    return
  came: list[int] = []
  first: list[float] = []
  previous: dict[int, Any] = {}

  def restore() -> None:
    for number, handler in previous.items():
      signal.signal(number, handler)

  def insist() -> None:
    # Python's handlers wait for the main thread, which may hang in a driver.
    begin = None
    while numbers := heard.recv(64):
      if numbers[0] not in previous:
        continue
      now = time.monotonic()
      begin = begin or now
      if now - begin > _ONE_SIGNAL and not ended.wait(_LAST_SECONDS):
        os._exit(128 + numbers[0])

  def again(number: int, frame: Any) -> None:
    # Schedulers tell a process and its step, both at the same time.
    if time.monotonic() - first[0] > _ONE_SIGNAL:
      restore()
      signal.raise_signal(number)

  def handle(number: int, frame: Any) -> None:
    came.append(number)
    first.append(time.monotonic())
    for each in previous:
      signal.signal(each, again)
    logging.info("Saving after the current steps; a second signal stops now.")

  heard, told = socket.socketpair()
  ended = threading.Event()
  try:
    for number in (signal.SIGTERM, signal.SIGINT):
      previous[number] = signal.signal(number, handle)
    told.setblocking(False)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
  except ValueError:
    # Only the main thread may handle signals; a notebook's worker may not.
    before = None
  listener = threading.Thread(target=insist, daemon=True, name="signals")
  listener.start()
  _came = came
  try:
    yield lambda: bool(came)
  finally:
    _came = None
    if before is not None:
      signal.set_wakeup_fd(before)
    restore()
    ended.set()
    told.close()
    listener.join()
    heard.close()
