"""Commands in processes of their own, from this checkout."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(*command, code=0, cwd=ROOT, **environment):
  """Runs a command with more environment variables to an exit code, None = any;
  returns its outcome."""
  done = subprocess.run(
    [str(word) for word in command],
    cwd=cwd,
    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert code in (None, done.returncode), done.stdout + done.stderr
  return done


def python(*words, **options):
  """Runs this Python; see `run`."""
  return run(sys.executable, *words, **options)


def tiny_file(path, faces_dir, **settings):
  """Writes a file with the config of the tiny run, and returns its path."""
  path.write_text(
    "from tests.support.tiny import tiny_config\n\n\ndef get_config():\n"
    f"  return tiny_config({str(faces_dir)!r}, **{settings!r})\n"
  )
  return path


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]
