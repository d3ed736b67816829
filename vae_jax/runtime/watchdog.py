"""The watch: ends this process when another one is gone, or the run hangs.

A thread sends signs of life and looks for those of the others. Two things are
told apart: a process that is gone (its connection closed) or frozen (no sign
of life), and one that lives but gets no further (no progress). Neither can be
mended from within, since collectives cannot be left: all that can be done is
to say who it is and end, so that a launcher starts the job again from its last
checkpoint.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

from vae_jax.runtime import transport as peers_lib

# What a process is doing when it is not its fault that nothing goes on.
COMPUTING = "waiting for the devices"
WAITING = "waiting for the other processes"

# Exit codes of a process that the others take over: they say whether starting
# the job again helps.
_SHARED = (1, 2, 3, 74, 75, 130)
_LAST_WORD_SECONDS = 5.0


class Watch:
  """Signs of life and of progress of this process and the others."""

  def __init__(
    self,
    peers: peers_lib.Peers | None,
    *,
    heartbeat_seconds: float,
    stall_seconds: float,
  ):
    """Starts to watch.

    Args:
      peers: the other processes; None: there are none.
      heartbeat_seconds: without a sign of life, after which one is frozen.
      stall_seconds: without progress, after which the run hangs; 0: never.
    """
    self._peers = peers
    self._heartbeat, self._stall = heartbeat_seconds, stall_seconds
    now = time.monotonic()
    self._count = peers.count if peers else 1
    self._me = peers.index if peers else 0
    # Of each process: (steps of progress, what it is doing, in haste).
    self._at: list[tuple[int, str, bool]] = [(0, "", False)] * self._count
    self._moved = [now] * self._count
    self._heard = [now] * self._count
    self._left: set[int] = set()
    self._ended = threading.Event()
    self._lock = threading.Lock()
    if peers:
      peers.on_message = self._on_message
    self._thread = threading.Thread(target=self._run, daemon=True, name="watch")
    self._thread.start()

  def progress(self, doing: str, *, in_haste: bool | None = None) -> None:
    """Notes that this process has come further and what it does now.

    Args:
      doing: in words.
      in_haste: whether it should come further again before `stall_seconds`
        are over; None: as before.
    """
    with self._lock:
      count, _, before = self._at[self._me]
      hurry = before if in_haste is None else in_haste
      self._at[self._me] = (count + 1, doing, hurry)
      self._moved[self._me] = time.monotonic()

  @contextlib.contextmanager
  def pace(self, *, in_haste: bool) -> Iterator[None]:
    """Inside, progress is expected within `stall_seconds`, or is not."""
    before = self._at[self._me][2]
    self.progress(self._at[self._me][1], in_haste=in_haste)
    try:
      yield
    finally:
      self.progress(self._at[self._me][1], in_haste=before)

  def leave(self, sentence: str, code: int) -> None:
    """Tells the others that this process ends, and why."""
    if self._peers:
      message = {"kind": "leave", "sentence": sentence, "code": code}
      if self._me == 0:
        self._relay(self._farewell(0, message))
      else:
        self._peers.tell(message)
    self.end()

  def finish(self) -> None:
    """Waits until all processes have come to their end, and stops watching."""
    self.progress(WAITING, in_haste=False)
    if self._peers:
      self._peers.gather("the end")
      # One who reads this knows why the connection closes next.
      self._peers.tell({"kind": "bye"})
    self.end()

  def end(self) -> None:
    """Stops watching: whoever closes a connection from now on may."""
    self._ended.set()
    if threading.current_thread() is not self._thread:
      self._thread.join(1.0)  # In the middle of a look it ends that first.

  def _name(self, process: int) -> str:
    if self._peers:
      name = self._peers.names[process]
    else:
      name = f"this process (pid {os.getpid()})"
    return name[:1].upper() + name[1:]

  def _run(self) -> None:
    beat = min(1.0, self._heartbeat / 5, (self._stall or 5.0) / 5)
    last = time.monotonic()
    while not self._ended.wait(beat):
      now = time.monotonic()
      if now - last > self._heartbeat / 2:
        # This process slept itself: what it did not hear was not unsaid.
        with self._lock:
          self._heard = [now] * self._count
          self._moved = [now] * self._count
      last = now
      if self._peers:
        self._peers.tell({"kind": "beat", "at": self._at[self._me]})
      self._look(now)

  def _look(self, now: float) -> None:
    """Stops the run if somebody is silent, or nobody gets any further."""
    others = self._watched()
    silent = [i for i in others if now - self._heard[i] > self._heartbeat]
    if silent:
      names = ", ".join(self._name(i) for i in silent)
      self._stop(
        f"{names} has given no sign of life for {self._heartbeat:g} s."
      )
    if not self._stall or self._me:
      return
    with self._lock:
      at, moved = list(self._at), list(self._moved)
    # One who may take as long as it likes may keep the others waiting too.
    if not all(in_haste for _, _, in_haste in at):
      return
    if now - min(moved) < self._stall:
      return
    # Who made the others wait was the last to move.
    stuck = [i for i in range(self._count) if now - moved[i] > self._stall / 2]
    guilty = [i for i in stuck if at[i][1] not in (COMPUTING, WAITING)]
    said = ", ".join(
      f"{self._name(i)} is stuck {at[i][1]}" for i in guilty or stuck
    )
    self._stop(f"No progress for {self._stall:g} s: {said}.")

  def _watched(self) -> list[int]:
    """Those whose messages come here: all others, or process 0."""
    if not self._peers:
      return []
    return [0] if self._me else list(range(1, self._count))

  def _on_message(self, process: int, message: dict[str, Any] | None) -> None:
    self._heard[process] = time.monotonic()
    if self._ended.is_set():
      return
    if message is None:
      if process not in self._left:
        self._stop(f"{self._name(process)} is gone.")
    elif message["kind"] == "beat":
      with self._lock:
        if self._at[process][0] != message["at"][0]:
          self._moved[process] = self._heard[process]
        self._at[process] = tuple(message["at"])
    elif message["kind"] == "bye":
      self._left.add(process)
    elif message["kind"] == "leave":
      self._end_with(self._farewell(process, message))
    elif message["kind"] == "stop":
      self._end_with(message)

  def _farewell(self, process: int, message: dict[str, Any]) -> dict[str, Any]:
    code = message["code"]
    return {
      "kind": "stop",
      "sentence": f"{self._name(process)} stopped: {message['sentence']}",
      "code": code if code in _SHARED else peers_lib.EXIT_LOST,
    }

  def _stop(self, sentence: str) -> None:
    again = " The job must be started again; it goes on from its checkpoint."
    self._end_with(
      {
        "kind": "stop",
        "sentence": sentence + again,
        "code": peers_lib.EXIT_LOST,
      }
    )

  def _relay(self, message: dict[str, Any]) -> None:
    if self._peers and not self._me:
      self._peers.tell(message)

  def _end_with(self, message: dict[str, Any]) -> None:
    """Says why and ends the process, whatever its main thread hangs in."""
    with self._lock:  # Held to the end: there is one last word.
      if self._ended.is_set():
        return
      self._relay(message)
      logging.error("%s", message["sentence"])
      for function in _last_words:
        # It may hang as all else does.
        word = threading.Thread(
          target=function, args=(message["sentence"],), daemon=True
        )
        word.start()
        word.join(_LAST_WORD_SECONDS)
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(message["code"])


_watch: Watch | None = None
_last_words: list[Callable[[str], None]] = []


def start(watch: Watch | None) -> None:
  """Makes this the watch that `progress` reports to."""
  global _watch
  _watch = watch


def current() -> Watch | None:
  """Returns the watch of this process, None before it is started."""
  return _watch


def hastily() -> contextlib.AbstractContextManager[None]:
  """Inside, a run without progress for `stall_seconds` is ended."""
  return _watch.pace(in_haste=True) if _watch else contextlib.nullcontext()


def patiently() -> contextlib.AbstractContextManager[None]:
  """Inside, this process may take as long as it likes."""
  return _watch.pace(in_haste=False) if _watch else contextlib.nullcontext()


@contextlib.contextmanager
def last_words(function: Callable[[str], None]) -> Iterator[None]:
  """Inside, the function is told why, before the watch ends this process."""
  _last_words.append(function)
  try:
    yield
  finally:
    _last_words.remove(function)


def progress(doing: str) -> None:
  """Notes progress, where anybody watches; see `Watch.progress`."""
  if _watch is not None:
    _watch.progress(doing)
