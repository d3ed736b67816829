"""The processes of one job: a roll call, agreement, and word of who is gone.

JAX's distributed runtime moves the arrays. It ends a process from C++, with a
stack trace, when another one is missing, and it never notices one that lives
but hangs. So the processes keep a connection of their own beside it: a star of
TCP connections around process 0, opened on the coordinator's port before JAX
takes that port. Messages are lines of JSON; a connection that closes is a
process that is gone.
"""

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from vae_jax.config import ConfigError

# Another process of the job is gone or hangs; starting the job again helps.
EXIT_LOST = 76

_MAGIC = "vae_jax roll call"
# Longest line of a stranger who connects by mistake, and its patience.
_HELLO_BYTES, _HELLO_SECONDS = 1 << 16, 10.0
# An earlier job may take this long to give up its port.
_PORT_SECONDS = 20.0
_SAY_AFTER = 5.0  # Seconds of waiting before a person is told.


class Lost(Exception):
  """A process of the job did not come or is gone; the sentence names it."""

  exit_code = EXIT_LOST


class _Line:
  """One connection: lines of JSON both ways."""

  def __init__(self, connection: socket.socket):
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
    if select.select([], [self._socket], [], 0)[1]:
      self.send(message)

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
    self._lines: dict[int, _Line] = {}
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
      self._results[turn] = given
      self._changed.notify_all()
    for line in self._lines.values():
      line.send({"kind": "gathered", "turn": turn, "given": given})

  def _listen(self, process: int, line: _Line) -> None:
    while True:
      message = line.receive()
      if message is not None and message["kind"] == "gather":
        self._take(process, message)
      elif message is not None and message["kind"] == "gathered":
        with self._changed:
          self._results[message["turn"]] = message["given"]
          self._changed.notify_all()
      else:
        self.on_message(process, message)
      if message is None:
        return

  def _connected(self, lines: dict[int, _Line]) -> None:
    self._lines = lines
    for process, line in lines.items():
      threading.Thread(
        target=self._listen,
        args=(process, line),
        daemon=True,
        name=f"peer-{process}",
      ).start()


def roll_call(address: str, index: int, count: int, seconds: float) -> Peers:
  """Waits until all processes of the job are there, and connects them.

  Args:
    address: HOST:PORT of process 0, which listens there on all addresses
      while the roll is called and leaves the port free afterwards.
    index: of this process.
    count: processes of the job.
    seconds: how long to wait for the last one.

  Raises:
    Lost: somebody did not come in time; the sentence says who.
    ConfigError: two processes say that they are the same one, or the
      address cannot be used.
  """
  host, _, port = address.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
    raise ConfigError(
      f"--coordinator is {address!r}; it must be HOST:PORT of process 0, "
      "such as 10.0.0.1:8476."
    )
  peers = Peers(index, count)
  me = {"index": index, "host": socket.gethostname(), "pid": os.getpid()}
  if index:
    _join(peers, host.strip("[]"), int(port), me, seconds)
  else:
    _call(peers, int(port), me, seconds)
  return peers


def _in_words(hello: dict[str, Any]) -> str:
  return f"process {hello['index']} ({hello['host']}, pid {hello['pid']})"


def _call(peers: Peers, port: int, me: dict[str, Any], seconds: float) -> None:
  """Process 0: waits for all others."""
  begin = time.monotonic()
  came: dict[int, tuple[dict[str, Any], _Line]] = {}
  refused: list[str] = []
  changed = threading.Condition()

  def greet(connection: socket.socket) -> None:
    line = _Line(connection)
    hello = line.receive(limit=_HELLO_BYTES, seconds=_HELLO_SECONDS)
    if not hello or hello.get("magic") != _MAGIC:
      line.close()  # A stranger.
      return
    with changed:
      problem = ""
      if hello["count"] != peers.count:
        problem = (
          f"{_in_words(hello)} was told that there are {hello['count']} "
          f"processes, {_in_words(me)} that there are {peers.count}; "
          "--num_processes must be the same for all."
        )
      elif hello["index"] in came or not 0 < hello["index"] < peers.count:
        other = came.get(hello["index"], (me, None))[0]
        problem = (
          f"{_in_words(hello)} and {_in_words(other)} say that they are the "
          "same one; give each another --process_id, from 0 on."
        )
      if problem:
        line.send({"refused": problem})
        line.close()
        refused.append(problem)
      else:
        came[hello["index"]] = (hello, line)
      changed.notify_all()

  def accept(server: socket.socket) -> None:
    while True:
      try:
        connection, _ = server.accept()
      except OSError:
        return
      threading.Thread(target=greet, args=(connection,), daemon=True).start()

  server = _server(port)
  threading.Thread(target=accept, args=(server,), daemon=True).start()

  def whole() -> bool:
    return bool(refused) or len(came) == peers.count - 1

  def missing() -> str:
    absent = [i for i in range(1, peers.count) if i not in came]
    word = "process" if len(absent) == 1 else "processes"
    return f"{word} {', '.join(map(str, absent))} of {peers.count}"

  with changed:
    if not changed.wait_for(whole, min(_SAY_AFTER, seconds)):
      logging.info("Waiting for %s (at most %g s).", missing(), seconds)
      changed.wait_for(whole, max(0.0, begin + seconds - time.monotonic()))
    complete, problem = len(came) == peers.count - 1, "; ".join(refused)
  # Closing alone leaves `accept` waiting, and the port in its hands.
  with contextlib.suppress(OSError):
    server.shutdown(socket.SHUT_RDWR)
  server.close()
  if problem or not complete:
    here = [_in_words(hello) for hello, _ in came.values()]
    said = problem or (
      f"{missing().capitalize()} did not come within {seconds:g} s; here "
      f"{'are' if here else 'is only'} {', '.join([_in_words(me), *here])}."
    )
    for _, line in came.values():
      line.send({"refused" if problem else "lost": said})
      line.close()
    raise ConfigError(said) if problem else Lost(said)
  hellos = [me, *(came[i][0] for i in range(1, peers.count))]
  peers.names = [_in_words(hello) for hello in hellos]
  for _, line in came.values():
    line.send({"names": peers.names})
  peers._connected({i: line for i, (_, line) in came.items()})


def _server(port: int) -> socket.socket:
  """Listens on a port of all addresses."""
  begin = time.monotonic()
  while True:
    try:
      if socket.has_dualstack_ipv6():
        return socket.create_server(
          ("", port), family=socket.AF_INET6, dualstack_ipv6=True
        )
      return socket.create_server(("", port))
    except OSError as error:
      if time.monotonic() - begin > _PORT_SECONDS:
        raise ConfigError(
          f"Process 0 cannot listen on port {port} of {socket.gethostname()} "
          f"({error.strerror}); name a free one with --coordinator."
        ) from error
      time.sleep(0.2)


def _join(
  peers: Peers, host: str, port: int, me: dict[str, Any], seconds: float
) -> None:
  """Any other process: connects to process 0 and waits for the rest."""
  hello = {"magic": _MAGIC, "count": peers.count, **me}
  deadline, said = time.monotonic() + seconds, False
  while True:
    left = deadline - time.monotonic()
    if left <= 0:
      raise Lost(
        f"Process 0 did not answer at {host}:{port} within {seconds:g} s; "
        f"this is {_in_words(me)}."
      )
    if not said and seconds - left > _SAY_AFTER:
      logging.info("Waiting for process 0 at %s:%d.", host, port)
      said = True
    try:
      connection = socket.create_connection((host, port), min(left, 5.0))
    except OSError:
      time.sleep(0.1)
      continue
    line = _Line(connection)
    line.send(hello)
    # Process 0 says itself when it gives up.
    answer = line.receive(seconds=left + _SAY_AFTER)
    if answer is None:
      line.close()  # An earlier job's process 0, or JAX itself.
      time.sleep(0.1)
      continue
    if "names" not in answer:
      line.close()
    if "refused" in answer:
      raise ConfigError(answer["refused"])
    if "lost" in answer:
      raise Lost(answer["lost"])
    peers.names = answer["names"]
    peers._connected({0: line})
    return
