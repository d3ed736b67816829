"""What a run was made with: `<workdir>/record.json`, an entry for each start.

With the config and the data it is what somebody needs to get the same numbers
again: the code, the packages, the devices and the command. An entry is written
when a run starts and completed when it ends; one that stays "unknown" is of a
run that was killed, or is still at work.
"""

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.runtime import (
  devices,
  distributed,
  preemption,
  storage,
  watchdog,
)
from vae_jax.training import progress

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "numpy",
  "tensorflow-datasets",
  "array_record",
  "ml_collections",
  "vae_jax",
)
_FOLDER = pathlib.Path(__file__).parents[1]
_GIT_SECONDS = 10.0
_OUTCOMES = (
  (preemption.Interrupted, "interrupted"),
  (KeyboardInterrupt, "interrupted"),
  (progress.Diverged, "diverged"),
  (BaseException, "failed"),
)


class Record:
  """The entry of one start.

  Attributes:
    step: that the run has come to.
  """

  def __init__(self, workdir: str, entry: dict[str, Any]):
    """Appends the entry to those in the workdir; the first process writes."""
    self.step: int | None = None
    self._entry = entry
    self._path = storage.path(workdir) / "record.json"
    self._before: list[Any] = []
    self._writes = devices.is_lead()
    if not self._writes:
      return
    try:
      self._before = read(workdir)
    except Exception as error:  # Clients of object stores have no common base.
      # Without this start's entry the file has at least those before it.
      logging.warning("%s cannot be read (%s).", self._path, error)
      self._writes = False
    self._write()

  def began(self, step: int) -> None:
    """Notes the step that the run goes on from, 0 if it begins."""
    self.step = self._entry["from_step"] = step
    self._write()

  def ended(self, error: BaseException | None) -> None:
    """Notes how the run ended: with an error, or as it should."""
    outcome, sentence = "finished", ""
    if error is not None:
      outcome = next(name for cls, name in _OUTCOMES if isinstance(error, cls))
      sentence = str(error) or type(error).__name__
    self._entry |= {
      "outcome": outcome,
      "sentence": sentence,
      "to_step": self.step,
      "ended": _now(),
    }
    self._write()

  def _write(self) -> None:
    if not self._writes:
      return
    try:
      storage.write_json(self._path, [*self._before, self._entry])
    except Exception as error:  # Clients of object stores have no common base.
      # Of no weight beside the run itself, or beside the error that ends it.
      logging.warning("%s cannot be written (%s).", self._path, error)


@contextlib.contextmanager
def keep(workdir: str, config: ConfigDict) -> Iterator[Record]:
  """Keeps the record of a run, from its start to its end.

  Args:
    workdir: folder of the run.
    config: the resolved config.
  """
  record = Record(workdir, describe(config) if devices.is_lead() else {})

  def lost(sentence: str) -> None:
    record.ended(watchdog.Stalled(sentence))

  try:
    with watchdog.last_words(lost):
      yield record
  except BaseException as error:
    record.ended(error)
    raise
  record.ended(None)


def read(workdir: str) -> list[dict[str, Any]]:
  """Returns the entries of a workdir, oldest first.

  A file that cannot be read is kept as `record.unreadable.json`.
  """
  path = storage.path(workdir) / "record.json"
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return []
  try:
    entries = json.loads(content)
    if not isinstance(entries, list):
      raise ValueError("no list")
    return entries
  except ValueError as error:
    aside = path.with_name("record.unreadable.json")
    logging.warning("%s cannot be read (%s); it is now %s.", path, error, aside)
    storage.write_bytes(aside, content)
    return []


def describe(config: ConfigDict) -> dict[str, Any]:
  """Returns what a run with this config is made with, as it starts."""
  settings = config_lib.to_json(config).encode()
  return {
    "started": _now(),
    "ended": None,
    "outcome": "unknown",
    "sentence": "",
    "from_step": None,
    "to_step": None,
    "seed": config.seed,
    "config_digest": _digest(settings),
    "command": sys.argv,
    "working_directory": {"path": os.getcwd(), **_checkout(os.getcwd())},
    "code": code_version(),
    "python": platform.python_version(),
    "packages": packages(),
    "devices": devices.describe_devices(),
    "processes": [str(p) for p in distributed.processes()],
    "devices_per_process": jax.local_device_count(),
    "backend": jax.default_backend(),
    "platform": platform.platform(),
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
  }


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()[:16]


def packages() -> dict[str, str]:
  """Returns the versions of the packages that decide a run's numbers."""
  versions = {}
  for name in _PACKAGES:
    # vae_jax itself may be a folder on the path.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  return versions


@functools.cache
def code_version() -> dict[str, Any]:
  """Returns what tells one state of this package's code from another.

  Returns:
    `version` of the installed package, "" if it is not installed; `commit` of
    its checkout and whether that is `dirty`, "" and False without one;
    `digest` of all its Python files.
  """
  content = hashlib.sha256()
  for path in sorted(_FOLDER.rglob("*.py")):
    code = path.read_bytes()
    name = path.relative_to(_FOLDER).as_posix()
    content.update(f"{name}\0{len(code)}\0".encode() + code)
  return {
    "version": packages().get("vae_jax", ""),
    **_checkout(_FOLDER, "__init__.py"),
    "digest": content.hexdigest()[:16],
  }


def _checkout(
  folder: str | os.PathLike[str], tracked: str = ""
) -> dict[str, Any]:
  """Returns the git commit of a folder, and whether tracked files differ.

  Args:
    folder: any in the checkout.
    tracked: a file there that must be part of it: an installed package may
      lie in the folder of another project.
  """

  def git(*words: str) -> str:
    done = subprocess.run(
      # A look must not wait for another git, nor keep it waiting.
      ["git", "--no-optional-locks", "-C", os.fspath(folder), *words],
      capture_output=True,
      text=True,
      check=True,
      timeout=_GIT_SECONDS,
    )
    return done.stdout.strip()

  try:
    if tracked:
      git("ls-files", "--error-unmatch", tracked)
    return {
      "commit": git("rev-parse", "HEAD"),
      "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
  except (OSError, subprocess.SubprocessError):
    return {"commit": "", "dirty": False}
