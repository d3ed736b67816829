"""The `config.json` of a run, perhaps of another release."""

import json
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, reason
from vae_jax.runtime import storage
from vae_jax.training import provenance


def read(workdir: storage.PathLike) -> ConfigDict | None:
  """Returns the resolved config of a run; None if there is no file.

  Settings that the file lacks, because they are newer than the run, have their
  defaults, which is logged.

  Raises:
    ConfigError: the file is damaged, or has a setting or a value that this
      release does not know.
  """
  path = storage.path(workdir) / "config.json"
  with storage.using(path):
    text = path.read_bytes() if path.exists() else None
  if text is None:
    return None
  try:
    tree = json.loads(text)
    if not isinstance(tree, dict):
      raise ValueError("no settings")
  except ValueError as error:
    raise ConfigError(
      f"{path}{_written_by(workdir)} is cut short or damaged "
      f"({reason(error)}); each checkpoint has a copy of it, "
      "checkpoints/<step>/config/metadata."
    ) from error
  _check(path, workdir, tree)
  return config_lib.from_json(text.decode())


def _check(path: storage.Path, workdir: storage.PathLike, tree: Any) -> None:
  stored, known = config_lib.flatten(tree), config_lib.default()
  for name, value in stored.items():
    try:
      config_lib.check_path(name)
    except ConfigError as error:
      raise ConfigError(
        f"{path}{_written_by(workdir)} has the setting {name}, which this "
        "release does not know; open the run with the release that wrote it."
      ) from error
    value = tuple(value) if isinstance(value, list) else value
    try:
      config_lib.update(known, name, value)
    except (TypeError, ValueError) as error:
      raise ConfigError(
        f"{path}{_written_by(workdir)} sets {name} to {value!r}; it must be "
        f"like {config_lib.get(known, name)!r}."
      ) from error
  newer = {
    name: value
    for name, value in config_lib.flatten(config_lib.default()).items()
    if name not in stored and not name.endswith(".args")
  }
  if newer:
    logging.info(
      "%s%s lacks settings of this release, which have their defaults: %s.",
      path,
      _written_by(workdir),
      ", ".join(f"{name} = {value!r}" for name, value in newer.items()),
    )


def _written_by(workdir: storage.PathLike) -> str:
  """Returns which release wrote a run's config, within a sentence."""
  entries = provenance.read(str(workdir))
  code = entries[0].get("code", {}) if entries else {}
  if not code:
    return " (of an unknown release)"
  commit = f", commit {code['commit'][:7]}" if code.get("commit") else ""
  return f" (written by vae_jax {code.get('version') or '?'}{commit})"
