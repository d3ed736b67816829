"""Folders that one of the workers of pytest-xdist makes for all of them."""

import fcntl
import os
import pathlib
import shutil


def folder(name, make):
  """Returns a folder that `make`, a function of its path, has filled once."""
  root = pathlib.Path(os.environ["VAE_JAX_TESTS_SCRATCH"]) / "once"
  made, whole = root / name, root / f"{name}.whole"
  root.mkdir(exist_ok=True)
  with (root / f"{name}.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not whole.exists():
      shutil.rmtree(made, ignore_errors=True)
      made.mkdir()
      make(made)
      whole.touch()
  return made
