"""The roll call and agreement, over real connections between threads."""

import queue
import socket
import threading
import time
from concurrent import futures

import pytest

from vae_jax.config import ConfigError
from vae_jax.runtime import rendezvous
from vae_jax.runtime import transport as peers_lib


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def call(port, index, count, seconds=10.0):
  return rendezvous.call(f"127.0.0.1:{port}", index, count, seconds)


def together(functions):
  """Runs functions at once; returns their results or exceptions."""
  with futures.ThreadPoolExecutor(len(functions)) as pool:
    running = [pool.submit(f) for f in functions]
    done = [f.exception() or f.result() for f in running]
  return done


@pytest.fixture
def three():
  port = free_port()
  found = together([lambda i=i: call(port, i, 3) for i in range(3)])
  yield found
  for peers in found:
    peers.close()


def test_all_know_all(three):
  assert [p.index for p in three] == [0, 1, 2]
  for peers in three:
    assert peers.names == three[0].names
  assert all(
    name.startswith(f"process {i} (") for i, name in enumerate(three[0].names)
  )


def test_everybody_gets_what_everybody_gave_in_order(three):
  for turn in range(3):
    given = together(
      [lambda p=p, turn=turn: p.gather("here", [p.index, turn]) for p in three]
    )
    assert given == [[[i, turn] for i in range(3)]] * 3


def test_gathering_at_different_places_is_a_defect_that_is_named(three):
  places = ["saving", "saving", "evaluating"]
  found = together([lambda p=p: p.gather(places[p.index], None) for p in three])
  for error in found:
    assert isinstance(error, RuntimeError)
    assert "2 at 'evaluating'" in str(error)


def test_process_0_goes_on_only_when_the_others_are_told(three, monkeypatch):
  """It may end as soon as it does, and its connections with it."""
  told, send = threading.Event(), peers_lib.Line.send

  def in_a_while(line, message):
    if message["kind"] == "gathered":
      told.wait()
    send(line, message)

  monkeypatch.setattr(peers_lib.Line, "send", in_a_while)
  with futures.ThreadPoolExecutor(3) as pool:
    first = pool.submit(three[0].gather, "the end")
    time.sleep(0.2)  # It waits for the others.
    others = [pool.submit(p.gather, "the end") for p in three[1:]]
    try:
      assert not futures.wait([first], 0.5).done
    finally:
      told.set()
    assert all(f.result(5) == [None] * 3 for f in (first, *others))


def test_the_port_is_free_after_the_roll_call():
  port = free_port()
  two = together([lambda i=i: call(port, i, 2) for i in range(2)])
  # As JAX's own service will listen there while these talk.
  with socket.create_server(("", port)):
    given = together([lambda p=p: p.gather("x", p.index) for p in two])
  assert given == [[0, 1]] * 2
  for peers in two:
    peers.close()


def test_one_who_does_not_come_is_named():
  port = free_port()
  found = together([lambda i=i: call(port, i, 4, 1.0) for i in (0, 2)])
  for error in found:
    assert isinstance(error, peers_lib.Lost)
    assert "Processes 1, 3 of 4 did not come within 1 s" in str(error)
    assert "process 0 (" in str(error) and "process 2 (" in str(error)
  assert found[0].exit_code == 76


def test_a_missing_lead_is_named():
  port = free_port()
  with pytest.raises(peers_lib.Lost, match=f"Process 0 .*:{port} within 0.5"):
    call(port, 1, 2, 0.5)


def test_two_that_say_they_are_the_same_are_refused():
  port = free_port()
  found = together([lambda i=i: call(port, i, 3, 5.0) for i in (0, 1, 1)])
  assert all(isinstance(e, ConfigError) for e in found)
  assert "--process_id" in str(found[0])


def test_jobs_of_different_sizes_are_refused():
  port = free_port()
  found = together([lambda: call(port, 0, 2, 5.0), lambda: call(port, 1, 3)])
  for error in found:
    assert isinstance(error, ConfigError)
    assert "there are 3" in str(error) and "there are 2" in str(error)


def test_a_stranger_is_not_let_in():
  port = free_port()

  def stranger():
    for _ in range(100):
      try:
        with socket.create_connection(("127.0.0.1", port), 1) as knock:
          knock.sendall(b"GET / HTTP/1.1\r\n\r\n")
          return knock.recv(10)
      except ConnectionRefusedError:
        pass
    return b""

  found = together(
    [lambda: call(port, 0, 2), stranger, lambda: call(port, 1, 2)]
  )
  assert found[1] == b""
  assert found[0].names == found[2].names and len(found[0].names) == 2
  found[0].close()
  found[2].close()


@pytest.mark.parametrize("address", ["", "host", ":1", "host:x", "host:70000"])
def test_an_address_that_is_none(address):
  with pytest.raises(ConfigError, match="must be HOST:PORT"):
    rendezvous.call(address, 0, 2, 1.0)


def test_a_closed_connection_is_told(three):
  gone = queue.Queue()
  three[0].on_message = lambda process, message: gone.put((process, message))
  three[2].close()
  assert gone.get(timeout=5) == (2, None)
