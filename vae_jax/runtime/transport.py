"""The processes of one job: connections, agreement, and word of who is gone.

JAX's distributed runtime moves the arrays. It ends a process from C++, with a
stack trace, when another one is missing, and it never notices one that lives
but hangs. So the processes keep a connection of their own beside it: a star of
TCP connections around process 0, opened by `roll_call`. Messages are lines of
JSON; a connection that closes is a process that is gone.
"""

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

# Another process of the job is gone or hangs; starting the job again helps.
EXIT_LOST = 76


class Lost(Exception):
  """A process of the job did not come or is gone; the sentence names it."""

  exit_code = EXIT_LOST


class Line:
  """One connection: lines of JSON both ways."""

  def __init__(self, connection: socket.socket):
    """Takes over an open connection."""
    self._socket = connection
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self._reader = connection.makefile("rb")
    self._lock = threading.Lock()

  def send(self, message: dict[str, Any]) -> None:
    """Sends, waiting for room; silent if the other end is gone."""
    data = json.dumps(message).encode() + b"\n"
    # Whoever reads from a closed connection learns that it is.
    with self._lock, contextlib.suppress(OSError):
      self._socket.sendall(data)

  def send_if_it_reads(self, message: dict[str, Any]) -> None:
    """Sends, unless the other end has stopped reading."""
    ready = select.poll()
    with contextlib.suppress(ValueError):  # Closed at this end.
      ready.register(self._socket, select.POLLOUT)
    if ready.poll(0):
      self.send(message)

  def is_closed(self) -> bool:
    """Returns whether the other end is gone."""
    ready = select.poll()
    try:
      ready.register(self._socket, select.POLLIN)
      # Nothing waits to be read that is not the end.
      return bool(ready.poll(0)) and not self._socket.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
      return True

  def receive(
    self, *, limit: int = -1, seconds: float | None = None
  ) -> dict[str, Any] | None:
    """Returns the next message, None when the connection is closed."""
    try:
      self._socket.settimeout(seconds)
      line = self._reader.readline(limit)
      self._socket.settimeout(None)
      return json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
      return None

  def close(self) -> None:
    """Closes it; who reads from it is told the end."""
    with contextlib.suppress(OSError):
      self._socket.shutdown(socket.SHUT_RDWR)
    self._reader.close()
    self._socket.close()


class Peers:
  """This process's place in the job, and its connections.

  Attributes:
    index: of this process.
    count: processes of the job.
    names: each process in words, as "process 1 (host-b, pid 77)".
    on_message: called in a thread with (process, message) for all messages
      that belong to no `gather`; message None: its connection is closed.
  """

  def __init__(self, index: int, count: int):
    self.index, self.count = index, count
    self.names = [f"process {i}" for i in range(count)]
    self.on_message: Callable[[int, dict[str, Any] | None], None] = (
      lambda process, message: None
    )
    self._lines: dict[int, Line] = {}
    self._turn = 0
    self._gathered: dict[int, dict[int, tuple[str, Any]]] = {}
    self._results: dict[int, Any] = {}
    self._changed = threading.Condition()

  def gather(self, what: str, value: Any = None) -> list[Any]:
    """Returns what each process gave, in their order; all must call it.

    Args:
      what: where in the program this is, the same in all processes.
      value: anything that JSON holds.

    Raises:
      RuntimeError: the processes are at different places of the program.
    """
    turn, self._turn = self._turn, self._turn + 1
    message = {"kind": "gather", "turn": turn, "what": what, "value": value}
    if self.index:
      self._lines[0].send(message)
    else:
      self._take(0, message)
    with self._changed:
      self._changed.wait_for(lambda: turn in self._results)
      given = self._results.pop(turn)
    places = [name for name, _ in given]
    if len(set(places)) > 1:
      here = ", ".join(f"{i} at {p!r}" for i, p in enumerate(places))
      raise RuntimeError(f"the processes are at different places: {here}")
    return [value for _, value in given]

  def tell(self, message: dict[str, Any]) -> None:
    """Sends to all others: from process 0 directly, else to process 0."""
    for line in self._lines.values():
      line.send_if_it_reads(message)

  def close(self) -> None:
    """Closes all connections."""
    for line in self._lines.values():
      line.close()

  def _take(self, process: int, message: dict[str, Any]) -> None:
    """Process 0: collects a turn, and hands it out when it is whole."""
    turn = message["turn"]
    with self._changed:
      part = self._gathered.setdefault(turn, {})
      part[process] = (message["what"], message["value"])
      if len(part) < self.count:
        return
      given = [part[i] for i in range(self.count)]
      del self._gathered[turn]
    # The others first: this process may end as soon as it knows.
    for line in self._lines.values():
      line.send({"kind": "gathered", "turn": turn, "given": given})
    self._give(turn, given)

  def _give(self, turn: int, given: list[Any]) -> None:
    """Hands a whole turn to the thread that waits for it here."""
    with self._changed:
      self._results[turn] = given
      self._changed.notify_all()

  def _listen(self, process: int, line: Line) -> None:
    while True:
      message = line.receive()
      if message is not None and message["kind"] == "gather":
        self._take(process, message)
      elif message is not None and message["kind"] == "gathered":
        self._give(message["turn"], message["given"])
      else:
        self.on_message(process, message)
      if message is None:
        return

  def connect(self, lines: dict[int, Line]) -> None:
    """Takes over the connections: of process 0 to all, of others to it."""
    self._lines = lines
    for process, line in lines.items():
      threading.Thread(
        target=self._listen,
        args=(process, line),
        daemon=True,
        name=f"peer-{process}",
      ).start()
