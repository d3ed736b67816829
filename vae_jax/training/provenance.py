"""Provenance of a run: `<workdir>/record.json`, an entry for each start.

An entry holds the code, packages, devices and command that the config and the
data need to give the same numbers again. It is written at the start and
completed at the end; an outcome that stays "unknown" means that the process
was killed, or is still at work.
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
from vae_jax.config import exits
from vae_jax.runtime import devices, distributed, preemption, storage, watchdog
from vae_jax.training import progress

_PACKAGES = (
  "jax jaxlib flax optax orbax-checkpoint numpy tensorflow-datasets "
  "array_record ml_collections vae_jax"
).split()
_FOLDER = pathlib.Path(__file__).parents[1]
_GIT_SECONDS = 10.0
_OUTCOMES = (
  (preemption.Interrupted, "interrupted"),
  (KeyboardInterrupt, "interrupted"),
  (progress.Diverged, "diverged"),
  (BaseException, "failed"),
)


class Record:
  """The entry of one start, which the first process writes.

  The run keeps its `step` up to date.
  """

  def __init__(self, workdir: str, entry: dict[str, Any]):
    """Appends the entry to those in the workdir."""
    self.step: int | None = None
    self._path = storage.path(workdir) / "record.json"
    self._entry, self._entries = entry, [entry]
    self._writes = devices.is_lead()
    if not self._writes:
      return
    try:
      self._entries = [*read(workdir), entry]
    except Exception as error:  # Clients of object stores have no common base.
      # The earlier entries matter more than this one.
      logging.warning("%s cannot be read (%s).", self._path, error)
      self._writes = False
    self._write()

  def began(self, step: int, **origin: Any) -> None:
    """Notes the first step of this start, and where its weights are from."""
    self.step = step
    self._write(from_step=step, **origin)

  def ended(self, error: BaseException | None) -> None:
    """Notes the end of the run, and the error that ended it, if any."""
    entry = {"outcome": "finished", "sentence": ""}
    if error is not None:
      outcome = next(name for cls, name in _OUTCOMES if isinstance(error, cls))
      sentence = str(error) or type(error).__name__
      entry = {"outcome": outcome, "sentence": sentence}
    # A disk that is full is named by the error that ends the run.
    known = error is not None and exits.exit_code(error) == exits.EXIT_STORAGE
    self._write(known, **entry, to_step=self.step, ended=_now())

  def _write(self, quietly: bool = False, **changes: Any) -> None:
    self._entry |= changes
    if not self._writes:
      return
    try:
      storage.write_json(self._path, self._entries)
    except Exception as error:  # Clients of object stores have no common base.
      # The run, or the error that ends it, matters more.
      if not quietly:
        logging.warning("%s cannot be written (%s).", self._path, error)


@contextlib.contextmanager
def keep(workdir: str, config: ConfigDict) -> Iterator[Record]:
  """Keeps the record of a run from its start to its end, in the block."""
  record = Record(workdir, describe(config) if devices.is_lead() else {})
  try:
    with watchdog.last_words(lambda s: record.ended(watchdog.Stalled(s))):
      yield record
  except BaseException as error:
    record.ended(error)
    raise
  record.ended(None)


def read(workdir: str) -> list[dict[str, Any]]:
  """Returns the entries of a workdir, oldest first.

  A damaged file is kept as `record.unreadable.json`.
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
  """Returns the entry of a start, without its end."""
  settings = config_lib.to_json(config).encode()
  return {
    "started": _now(),
    "ended": None,
    "outcome": "unknown",
    "sentence": "",
    "from_step": None,
    "to_step": None,
    "seed": config.seed,
    "config_digest": hashlib.sha256(settings).hexdigest()[:16],
    "command": sys.argv,
    "working_directory": {"path": os.getcwd(), **_checkout(os.getcwd())},
    "code": code_version(),
    "python": platform.python_version(),
    "packages": packages(),
    "devices": devices.describe_devices(),
    "processes": [str(process) for process in distributed.processes()],
    "devices_per_process": jax.local_device_count(),
    "backend": jax.default_backend(),
    "platform": platform.platform(),
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
  }


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def packages() -> dict[str, str]:
  """Returns the versions of the packages on which a run's numbers depend."""
  versions = {}
  for name in _PACKAGES:
    # vae_jax itself may be a folder on the path.
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  return versions


@functools.cache
def code_version() -> dict[str, Any]:
  """Returns `version` of the installed package, "" if it is not installed;
  `commit` of its checkout and whether that is `dirty`, "" and False without
  one; `digest` of all its Python files."""
  content = hashlib.sha256()
  for path in sorted(_FOLDER.rglob("*.py")):
    code, name = path.read_bytes(), path.relative_to(_FOLDER).as_posix()
    content.update(f"{name}\0{len(code)}\0".encode() + code)
  return {
    "version": packages().get("vae_jax", ""),
    **_checkout(_FOLDER, "__init__.py"),
    "digest": content.hexdigest()[:16],
  }


def _checkout(folder: storage.PathLike, tracked: str = "") -> dict[str, Any]:
  """Returns the git commit of a folder, and whether tracked files differ.

  The file `tracked` must be part of the checkout, because an installed package
  may lie in the folder of another project.
  """

  def git(*words: str) -> str:
    return subprocess.run(
      # Without locks, so that neither waits for another git.
      ["git", "--no-optional-locks", "-C", os.fspath(folder), *words],
      capture_output=True,
      text=True,
      check=True,
      timeout=_GIT_SECONDS,
    ).stdout.strip()

  try:
    if tracked:
      git("ls-files", "--error-unmatch", tracked)
    dirty = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(dirty)}
  except (OSError, subprocess.SubprocessError):
    return {"commit": "", "dirty": False}
