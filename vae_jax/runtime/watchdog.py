"""Ends this process if its main thread makes no progress.

JAX notices a dead or frozen process by its heartbeats. They come from a thread
of their own, so that JAX never notices a run that hangs in a collective, a
driver or a data source.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from absl import logging

# Another process of the job is gone, or this one hangs: a restart helps.
EXIT_LOST = 76
COMPUTING = "waiting for the devices"


class Stalled(Exception):
  """The run made no progress; the text names what it was doing."""

  exit_code = EXIT_LOST


class Watchdog:
  """Ends the process after `seconds` without progress, while it is armed.

  Before that, the functions in `last_words` receive the reason.
  """

  def __init__(
    self,
    seconds: float,
    name: str = "",
    *,
    delay: float = 0.0,
    end: Callable[[int], None] = os._exit,
    last_word_seconds: float = 5.0,
  ):
    """Starts the thread, unless `seconds` is 0.

    The `delay`, in seconds, is between the report and the end, so that the
    watchdogs of other processes report, too. `end` receives the exit code.
    """
    self.last_words: list[Callable[[str], None]] = []
    self._seconds, self._delay, self._end = seconds, delay, end
    self._last_word_seconds = last_word_seconds
    self._name = name or f"This process (pid {os.getpid()})"
    self._doing, self._armed, self._since = "", False, time.monotonic()
    self._stopped = threading.Event()
    if seconds:
      run = threading.Thread(target=self._run, daemon=True, name="watchdog")
      run.start()

  def progress(self, doing: str) -> None:
    """Notes that the process made progress, and its next activity."""
    self._doing, self._since = doing, time.monotonic()

  @contextlib.contextmanager
  def armed(self, armed: bool, doing: str) -> Iterator[None]:
    """Expects progress, or does not expect it, inside the block."""
    before = self._armed, self._doing
    self.progress(doing)
    self._armed = armed
    try:
      yield
    finally:
      self.progress(before[1])
      self._armed = before[0]

  def stop(self) -> None:
    """Stops the thread."""
    self._stopped.set()

  def _run(self) -> None:
    interval = min(1.0, self._seconds / 5)
    last = time.monotonic()
    while not self._stopped.wait(interval):
      now = time.monotonic()
      if now - last > self._seconds / 2:
        # This thread slept as well, as in a suspended process.
        self._since = now
      last = now
      if self._armed and now - self._since > self._seconds:
        self._stall()
        return

  def _stall(self) -> None:
    reason = (
      f"{self._name} made no progress for {self._seconds:g} s while "
      f"{self._doing}. A restarted job goes on from its last checkpoint, if it "
      "has one."
    )
    logging.error("%s", reason)
    for function in self.last_words:
      # It may hang as well.
      thread = threading.Thread(target=function, args=(reason,), daemon=True)
      thread.start()
      thread.join(self._last_word_seconds)
    time.sleep(self._delay)
    sys.stdout.flush()
    sys.stderr.flush()
    self._end(EXIT_LOST)


# Without `start` it is never armed, because it has no time limit.
_current = Watchdog(0.0)


def start(seconds: float, name: str = "", *, delay: float = 0.0) -> None:
  """Starts the watchdog of this process; see `Watchdog`."""
  global _current
  _current.stop()
  _current = Watchdog(seconds, name, delay=delay)


def stop() -> None:
  """Stops the watchdog of this process."""
  _current.stop()


def progress(doing: str) -> None:
  """Notes that this process made progress, and its next activity."""
  _current.progress(doing)


def armed() -> contextlib.AbstractContextManager[None]:
  """Ends the process if the block makes no progress for the time limit."""
  return _current.armed(True, "starting")


def paused(doing: str) -> contextlib.AbstractContextManager[None]:
  """Suspends the time limit inside the block."""
  return _current.armed(False, doing)


@contextlib.contextmanager
def last_words(function: Callable[[str], None]) -> Iterator[None]:
  """Calls a function with the reason if the process is ended in the block."""
  current = _current
  current.last_words.append(function)
  try:
    yield
  finally:
    current.last_words.remove(function)
