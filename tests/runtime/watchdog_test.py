"""Who is gone, frozen or stuck: three watches over real connections."""

import os
import threading
import time

import pytest

from tests.runtime.rendezvous_test import call, free_port, together
from vae_jax.runtime import watchdog as watch_lib


class Job:
  """Watches of processes that live in threads of this one."""

  def __init__(self, monkeypatch, count, heartbeat=0.5, stall=0.0):
    self.ends, self.sentence = {}, ""
    self.ended = threading.Event()
    port = free_port()
    self.peers = together(
      [lambda i=i: call(port, i, count) for i in range(count)]
    )
    monkeypatch.setattr(watch_lib, "os", self)
    monkeypatch.setattr(watch_lib.logging, "error", self._note)
    self.watches = [
      watch_lib.Watch(p, heartbeat_seconds=heartbeat, stall_seconds=stall)
      for p in self.peers
    ]

  getpid = staticmethod(os.getpid)

  def _note(self, form, sentence):
    self.sentence = sentence

  def _exit(self, code):
    """Stops the thread, as if the process had ended."""
    self.ends.setdefault(self.sentence, []).append(code)
    self.ended.set()
    threading.Event().wait()

  def close(self):
    for watch in self.watches:
      watch.end()
    for peers in self.peers:
      peers.close()


@pytest.fixture
def job(monkeypatch):
  made = []

  def make(*args, **kwargs):
    made.append(Job(monkeypatch, *args, **kwargs))
    return made[0]

  yield make
  made[0].close()


def only_end(job, seconds=5.0):
  assert job.ended.wait(seconds)
  sentences = list(job.ends)
  return sentences[0], job.ends[sentences[0]][0]


def test_nobody_ends_while_all_live(job):
  three = job(3, stall=0.3)
  time.sleep(1.2)
  # Nobody is in haste.
  assert not three.ends


@pytest.mark.parametrize("process", [0, 1])
def test_one_who_is_gone_is_named(job, process):
  two = job(2, heartbeat=30.0)
  two.watches[process].end()
  two.peers[process].close()
  sentence, code = only_end(two)
  name = two.peers[0].names[process]
  assert sentence.startswith(f"P{name[1:]} is gone.") and code == 76


@pytest.mark.parametrize("process", [0, 2])
def test_one_who_is_silent_is_named(job, process):
  three = job(3)
  three.watches[process].end()
  sentence, code = only_end(three)
  name = three.peers[0].names[process]
  assert f"P{name[1:]} has given no sign of life for 0.5 s" in sentence
  assert code == 76


def test_one_who_hangs_is_named_and_not_those_who_wait_for_it(job):
  three = job(3, heartbeat=30.0, stall=1.0)
  for index, watch in enumerate(three.watches):
    doing = "fetching data" if index == 1 else watch_lib.COMPUTING
    watch.progress(doing, in_haste=True)
  sentence, code = only_end(three, 8.0)
  name = three.peers[0].names[1]
  assert f"No progress for 1 s: P{name[1:]} is stuck fetching data." in sentence
  assert "process 2" not in sentence.lower() and code == 76


def test_progress_puts_it_off_and_leisure_ends_it(job):
  two = job(2, heartbeat=30.0, stall=1.0)
  for _ in range(8):
    for watch in two.watches:
      watch.progress(watch_lib.COMPUTING, in_haste=True)
    time.sleep(0.25)
  two.watches[1].progress("compiling", in_haste=False)
  time.sleep(1.8)
  assert not two.ends


def test_a_process_alone_is_watched_too(monkeypatch, job):
  one = job(2, heartbeat=0.5)
  one.close()
  one.ends.clear()
  one.ended.clear()
  alone = watch_lib.Watch(None, heartbeat_seconds=0.5, stall_seconds=0.4)
  alone.progress("drawing", in_haste=True)
  sentence, code = only_end(one)
  assert f"(pid {os.getpid()}) is stuck drawing" in sentence and code == 76


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize(
  "code, theirs", [(2, 2), (3, 3), (74, 74), (1, 1), (99, 76)]
)
def test_why_one_leaves_is_told_to_the_others(job, process, code, theirs):
  two = job(2, heartbeat=30.0)
  two.watches[process].leave("The disk is full.", code)
  sentence, found = only_end(two)
  assert sentence.endswith(" stopped: The disk is full.")
  assert sentence.startswith(f"Process {process} (") and found == theirs


def test_the_end_comes_to_all_and_alarms_nobody(job):
  three = job(3, heartbeat=30.0)
  together([watch.finish for watch in three.watches])
  for peers in three.peers:
    peers.close()
  time.sleep(0.2)
  assert not three.ends
