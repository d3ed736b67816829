"""Signals that end a run after a last checkpoint.

Schedulers send SIGTERM some seconds before they take a machine away; people
press Ctrl-C.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from absl import logging

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Schedulers signal a process and its parent, so that it may get two at once.
_ONE_SIGNAL_SECONDS = 1.0
# Time for a clean end after a second signal, before the process is ended.
_LAST_SECONDS = 5.0


class Interrupted(Exception):
  """A signal ended the run after a checkpoint; the same command resumes it."""

  # Launchers restart a job that ends with it.
  exit_code = 75


class _Handler:
  """Handler of both signals, and what it replaced."""

  def __init__(self):
    self._previous = {n: signal.getsignal(n) for n in _SIGNALS}
    self._first: float | None = None

  def received(self) -> bool:
    """Returns whether a signal has arrived."""
    return self._first is not None

  def __call__(self, number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if self._first is None:
      self._first = now
      logging.info("Saving after the current steps; a second signal ends now.")
    elif now - self._first > _ONE_SIGNAL_SECONDS:
      self.uninstall()
      signal.raise_signal(number)

  def install(self) -> None:
    for number in _SIGNALS:
      signal.signal(number, self)

  def uninstall(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
  """Yields a function that returns whether SIGTERM or SIGINT has arrived.

  A second signal acts as without this block, and ends the process after some
  seconds even if the main thread hangs in a driver. Nested uses share one
  handler. Signals are ignored in threads, such as those of a notebook.
  """
  outer = signal.getsignal(signal.SIGTERM)
  if isinstance(outer, _Handler):
    yield outer.received
    return
  handler = _Handler()
  if threading.current_thread() is not threading.main_thread():
    # Python allows handlers in the main thread only.
    yield handler.received
    return
  handler.install()
  with _ended_by_a_second_signal():
    try:
      yield handler.received
    finally:
      handler.uninstall()


@contextlib.contextmanager
def _ended_by_a_second_signal() -> Iterator[None]:
  """Ends the process some seconds after a second signal inside the block.

  Python's handlers run in the main thread, which may hang; a thread reads the
  numbers of the signals from the wakeup file descriptor instead.
  """
  reader, writer = socket.socketpair()
  ended = threading.Event()

  def read() -> None:
    first = None
    while numbers := reader.recv(64):
      if numbers[0] not in _SIGNALS:
        continue
      now = time.monotonic()
      first = first or now
      if now - first > _ONE_SIGNAL_SECONDS and not ended.wait(_LAST_SECONDS):
        os._exit(128 + numbers[0])

  writer.setblocking(False)
  before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  thread = threading.Thread(target=read, daemon=True, name="signals")
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    ended.set()
    writer.close()
    thread.join()
    reader.close()
