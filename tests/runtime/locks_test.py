"""Locks of files on this machine, and leases of objects in a store."""

import logging
import queue
import threading
import time
from concurrent import futures

import pytest

from vae_jax.runtime import locks, preemption, storage

DEAD = {"token": "of the dead", "count": 7}


def test_file_lock_is_exclusive(tmp_path, caplog):
  path = tmp_path / "lock"
  order = []

  def wait():
    with locks.file_lock(path, "working") as is_held:
      order.append(("second", is_held))

  thread = threading.Thread(target=wait)
  with caplog.at_level(logging.INFO, "absl"):
    with locks.file_lock(path) as is_held:
      assert is_held
      with pytest.raises(BlockingIOError):
        with locks.file_lock(path):
          pass
      thread.start()
      time.sleep(0.2)
      order.append(("first", True))
    thread.join(10)
  assert order == [("first", True), ("second", True)]
  assert "Another process is working: waiting for it." in caplog.text


def test_file_system_without_locks_is_used_anyway(
  tmp_path, monkeypatch, caplog
):
  def refuse(*args):
    raise OSError("no locks")

  monkeypatch.setattr(locks.fcntl, "flock", refuse)
  with locks.file_lock(tmp_path / "lock", "working") as is_held:
    assert not is_held
  assert "cannot be locked (no locks)" in caplog.text


def test_owner_follows_a_dead_one_and_keeps_others_out(any_address):
  path = any_address / ".owner"
  storage.write_json(path, DEAD)
  with locks.lease(path):
    assert "of the dead" not in path.read_text()
    with pytest.raises(BlockingIOError):
      with locks.lease(path):
        pass
    assert path.exists()
  assert not path.exists()


def test_one_of_many_that_start_at_once_becomes_the_owner(any_address):
  path = any_address / ".owner"
  storage.write_json(path, DEAD)
  done = threading.Barrier(5)

  def start(_):
    try:
      with locks.lease(path):
        done.wait(20)
        return True
    except BlockingIOError:
      done.wait(20)
      return False

  with futures.ThreadPoolExecutor(5) as pool:
    held = list(pool.map(start, range(5)))
  assert sorted(held) == [False] * 4 + [True]


def test_process_that_lost_its_lease_ends_at_once(address, caplog):
  codes = queue.SimpleQueue()
  path = address / ".owner"
  with preemption.listening() as received:
    with locks.lease(path, end=codes.put):
      storage.write_json(path, {"token": "new", "count": 0})
      assert codes.get(timeout=5) == 76
    # A run that saves first would overwrite files of the new owner.
    assert not received()
  assert "another owner" in caplog.text
  assert "new" in path.read_text()
