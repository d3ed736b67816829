"""Signals: one asks, two at once are one, a second one ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vae_jax.runtime import preemption


def test_a_signal_is_heard_and_two_at_once_are_one():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.listening() as outer:
    with preemption.listening() as told:
      assert not told()
      os.kill(os.getpid(), signal.SIGTERM)
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(0.1)
      assert told() and outer()
    assert outer()
  assert signal.getsignal(signal.SIGTERM) is before
  with preemption.listening() as told:
    assert not told()


def test_a_second_one_acts_as_ever():
  with preemption.listening() as told:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1.1)
    assert told()
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
      time.sleep(5)


@pytest.mark.slow
def test_a_second_one_ends_a_process_that_hangs_in_a_driver():
  code = (
    "import hashlib\n"
    "from vae_jax import interruption\n"
    "with interruption.listening():\n"
    "  print('ready', flush=True)\n"
    # Long, and no handler of Python's runs meanwhile.
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
