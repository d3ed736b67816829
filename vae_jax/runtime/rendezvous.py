"""The roll call: all processes of a job meet before JAX starts.

Process 0 listens on the coordinator's port, and leaves it to JAX when all are
there. Who does not come is named, which JAX does not do; who belongs to
another job is not let in.
"""

import contextlib
import os
import socket
import threading
import time
from typing import Any

from absl import logging

from vae_jax.config import ConfigError
from vae_jax.runtime import transport as peers_lib

# Longest line of a stranger who connects by mistake, and its patience.
_HELLO_BYTES, _HELLO_SECONDS = 1 << 16, 10.0
# An earlier job may take this long to give up its port.
_PORT_SECONDS = 20.0
_SAY_AFTER = 5.0  # Seconds of waiting before a person is told.


def call(
  address: str, index: int, count: int, seconds: float
) -> peers_lib.Peers:
  """Waits until all processes of the job are there, and connects them.

  Args:
    address: HOST:PORT of process 0, which listens there on all addresses
      while the roll is called and leaves the port free afterwards.
    index: of this process.
    count: processes of the job.
    seconds: how long to wait for the last one.

  Raises:
    peers.Lost: somebody did not come in time; the sentence says who.
    ConfigError: two processes say that they are the same one, or the
      address cannot be used.
  """
  host, _, port = address.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
    raise ConfigError(
      f"--coordinator is {address!r}; it must be HOST:PORT of process 0, "
      "such as 10.0.0.1:8476."
    )
  peers = peers_lib.Peers(index, count)
  me = {"index": index, "host": socket.gethostname(), "pid": os.getpid()}
  if index:
    _join(peers, host.strip("[]"), int(port), me, seconds)
  else:
    _wait_for_all(peers, int(port), me, seconds)
  return peers


def _magic() -> str:
  """Returns what the processes of one job, and only they, have in common."""
  names = ("VAE_JAX_JOB", "SLURM_JOB_ID", "SLURM_STEP_ID")
  job = [os.environ.get(name, "") for name in names]
  return " ".join(["vae_jax roll call", *job])


def _in_words(hello: dict[str, Any]) -> str:
  return f"process {hello['index']} ({hello['host']}, pid {hello['pid']})"


def _wait_for_all(
  peers: peers_lib.Peers, port: int, me: dict[str, Any], seconds: float
) -> None:
  """Process 0: waits for all others."""
  begin = time.monotonic()
  came: dict[int, tuple[dict[str, Any], peers_lib.Line]] = {}
  refused: list[str] = []
  changed = threading.Condition()

  def greet(connection: socket.socket) -> None:
    line = peers_lib.Line(connection)
    hello = line.receive(limit=_HELLO_BYTES, seconds=_HELLO_SECONDS)
    if not hello or hello.get("magic") != _magic():
      line.close()  # A stranger, or of another job.
      return
    with changed:
      for index in [i for i, (_, old) in came.items() if old.is_closed()]:
        came.pop(index)[1].close()  # It died, and may come again.
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
    raise ConfigError(said) if problem else peers_lib.Lost(said)
  hellos = [me, *(came[i][0] for i in range(1, peers.count))]
  peers.names = [_in_words(hello) for hello in hellos]
  for _, line in came.values():
    line.send({"names": peers.names})
  peers.connect({i: line for i, (_, line) in came.items()})


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
  peers: peers_lib.Peers,
  host: str,
  port: int,
  me: dict[str, Any],
  seconds: float,
) -> None:
  """Any other process: connects to process 0 and waits for the rest."""
  hello = {"magic": _magic(), "count": peers.count, **me}
  deadline, said = time.monotonic() + seconds, False
  while True:
    left = deadline - time.monotonic()
    if left <= 0:
      raise peers_lib.Lost(
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
    line = peers_lib.Line(connection)
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
      raise peers_lib.Lost(answer["lost"])
    peers.names = answer["names"]
    peers.connect({0: line})
    return
