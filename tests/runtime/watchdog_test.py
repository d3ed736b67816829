"""The watchdog ends a process that makes no progress, and no other."""

import os
import queue
import threading
import time

import pytest

from vae_jax.runtime import watchdog


@pytest.fixture
def codes():
  """Returns the exit codes with which a watchdog ends its process."""
  return queue.SimpleQueue()


def make(codes, seconds=0.5, **options):
  return watchdog.Watchdog(seconds, "Process 1", end=codes.put, **options)


def test_stalled_process_is_ended_with_its_activity(codes, caplog):
  dog = make(codes, delay=0.2)
  words = []
  dog.last_words.append(words.append)
  with dog.armed(True, "starting"):
    dog.progress("fetching data after step 3")
    while not words:
      assert codes.empty()
    # Time for the reports of other processes.
    assert codes.empty()
    assert codes.get(timeout=10) == watchdog.EXIT_LOST == 76
  (reason,) = words
  assert reason in caplog.text
  assert reason.startswith(
    "Process 1 made no progress for 0.5 s while fetching data after step 3."
  )


def test_progress_postpones_the_end(codes):
  dog = make(codes, seconds=1.0)
  with dog.armed(True, "starting"):
    for _ in range(8):
      dog.progress(watchdog.COMPUTING)
      time.sleep(0.25)
    with dog.armed(False, "compiling"):
      time.sleep(1.5)
  time.sleep(1.5)
  assert codes.empty()
  dog.stop()


def test_activity_before_a_pause_is_restored(codes, caplog):
  dog = watchdog.Watchdog(0.2, end=codes.put)
  with dog.armed(True, "drawing"):
    with dog.armed(False, "saving"):
      pass
    assert codes.get(timeout=10) == 76
  assert "while drawing." in caplog.text
  # A job of one process has no number.
  assert f"This process (pid {os.getpid()}) made no progress" in caplog.text


def test_hanging_last_words_do_not_keep_a_process(codes):
  hang = threading.Event()
  dog = make(codes, last_word_seconds=0.1)
  dog.last_words.append(lambda reason: hang.wait())
  with dog.armed(True, "saving"):
    assert codes.get(timeout=10) == 76
  hang.set()


@pytest.mark.parametrize("seconds", [0.2, 0.0])
def test_stopped_watchdog_or_one_without_a_limit_ends_nobody(codes, seconds):
  dog = make(codes, seconds)
  with dog.armed(True, "drawing"):
    if seconds:
      dog.stop()
    time.sleep(0.6)
  assert codes.empty()


def test_module_functions_reach_the_watchdog_that_was_started():
  watchdog.start(3600.0)
  with watchdog.last_words(print), watchdog.armed(), watchdog.paused("saving"):
    watchdog.progress("drawing")
    (thread,) = [t for t in threading.enumerate() if t.name == "watchdog"]
  watchdog.stop()
  thread.join(5)
  assert not thread.is_alive()
