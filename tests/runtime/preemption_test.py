"""Signals: one asks for an end, two at once are one, a second one ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from vae_jax.runtime import preemption


def test_signal_is_noted_and_two_at_once_are_one():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.listening() as outer:
    with preemption.listening() as received:
      assert not received()
      os.kill(os.getpid(), signal.SIGTERM)
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.1)
      assert received() and outer()
    assert outer()
  assert signal.getsignal(signal.SIGTERM) is before
  with preemption.listening() as received:
    assert not received()


def test_second_signal_acts_as_without_a_listener():
  with preemption.listening() as received:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1.1)
    assert received()
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(5)


def test_thread_of_a_notebook_ignores_signals():
  results = []

  def listen():
    with preemption.listening() as received:
      results.append(received())

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=listen)
  thread.start()
  thread.join()
  assert results == [False] and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_second_signal_ends_a_process_that_hangs_in_a_driver():
  code = (
    "import hashlib\n"
    "from vae_jax.runtime import preemption\n"
    "with preemption.listening():\n"
    "  print('ready', flush=True)\n"
    # Long, and no handler of Python runs meanwhile.
    "  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)\n"
  )
  command = [sys.executable, "-c", code]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
