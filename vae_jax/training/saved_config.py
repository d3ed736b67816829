"""The `config.json` of a run, perhaps of another release."""

import json

from absl import logging
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, check
from vae_jax.runtime import storage
from vae_jax.training import provenance


def read(workdir: storage.PathLike) -> ConfigDict | None:
  """Returns the resolved config of a run; None if there is no file.

  Settings that the file lacks, because they are newer than the run, have their
  defaults, which is logged.

  Raises:
    ConfigError: the file is damaged, or has a setting or a value that this
      release does not know, or with which no run can be.
  """
  path = storage.path(workdir) / "config.json"
  with storage.using(path):
    text = path.read_bytes() if path.exists() else None
  if text is None:
    return None
  try:
    config = config_lib.from_json(text, str(path))
  except ConfigError:
    # Once more, because only a fault is worth asking who wrote it.
    return config_lib.from_json(text, f"{path}{_written_by(workdir)}")
  try:
    check.validate(config)
  except ConfigError as error:
    raise ConfigError(
      f"{path}{_written_by(workdir)} is not the config of a run: {error}"
    ) from error
  stored = config_lib.flatten(json.loads(text))
  newer = [
    f"{name} = {value!r}"
    for name, value in config_lib.flatten(config_lib.default()).items()
    if name not in stored
  ]
  if newer:
    logging.info(
      "%s%s lacks settings of this release, which have their defaults: %s.",
      path,
      _written_by(workdir),
      ", ".join(newer),
    )
  return config


def _written_by(workdir: storage.PathLike) -> str:
  """Returns which release wrote a run's config, within a sentence."""
  entries = provenance.read(str(workdir))
  code = entries[0].get("code", {}) if entries else {}
  if not code:
    return " (of an unknown release)"
  commit = f", commit {code['commit'][:7]}" if code.get("commit") else ""
  return f" (written by vae_jax {code.get('version') or '?'}{commit})"
