"""Settings: the schema, overrides, checks, and names of classes."""

from vae_jax.config.schema import (
  FREE_FIELDS,
  MACHINE_FIELDS,
  ConfigError,
  check_path,
  default,
  differences,
  file_error,
  flatten,
  from_json,
  get,
  override_for_use,
  to_json,
  update,
)

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
  "to_json",
  "update",
]
