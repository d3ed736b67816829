"""Settings: the schema, overrides, checks, and names of classes."""

from vae_jax.config.errors import ConfigError, reason
from vae_jax.config.overrides import (
  check_path,
  differences,
  file_error,
  flatten,
  from_json,
  get,
  override_for_use,
  override_length,
  to_json,
  update,
)
from vae_jax.config.schema import FREE_FIELDS, MACHINE_FIELDS, default

__all__ = [
  "FREE_FIELDS",
  "MACHINE_FIELDS",
  "ConfigError",
  "check_path",
  "default",
  "differences",
  "file_error",
  "flatten",
  "from_json",
  "get",
  "override_for_use",
  "override_length",
  "reason",
  "to_json",
  "update",
]
