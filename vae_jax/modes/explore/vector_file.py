"""Latent vectors as JSON, and checks of vectors from outside."""

import json
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer
from ml_collections import ConfigDict

from vae_jax.config import ConfigError

_MAX_BYTES = 1 << 20
_MAX_VALUE = 1e4  # Largest number in a vector.


def write(
  code: Float32[np.ndarray, " d"],
  label: Integer[np.ndarray, "..."] | None,
  step: int,
) -> str:
  """Returns a code, its label and the checkpoint's step as JSON."""
  values = {"latent": code.tolist(), "step": step}
  if label is not None:
    values["label"] = label.tolist()
  return json.dumps(values, indent=2, allow_nan=False) + "\n"


def read(
  config: ConfigDict, content: bytes
) -> tuple[Float32[np.ndarray, " d"], Integer[np.ndarray, "..."] | None]:
  """Returns the code and the label in the content of a file.

  The label is None if the file has none or the model reads none.

  Raises:
    ConfigError: The file holds no code of this model.
  """
  if len(content) > _MAX_BYTES:
    raise ConfigError("A file with a vector has at most 1 MiB.")
  try:
    values = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise ConfigError(
      'The file is no JSON file; a vector is saved as {"latent": [...]}.'
    ) from error
  if not isinstance(values, dict) or "latent" not in values:
    raise ConfigError('The file has no "latent": [...].')
  code = checked_code(config, values["latent"])
  if config.model.condition == "none" or "label" not in values:
    return code, None
  return code, checked_label(config, values["label"])


def checked_code(config: ConfigDict, values: Any) -> Float32[np.ndarray, " d"]:
  """Returns values from outside as a code.

  Raises:
    ConfigError: They are not as many as the latents, or not finite numbers up
      to 10,000.
  """
  length = config.model.latent_dim
  if not isinstance(values, list) or len(values) != length:
    count = f"{len(values)}" if isinstance(values, list) else "no list"
    raise ConfigError(
      f"A vector of this model has {length} numbers; this one has {count}."
    )
  for i, value in enumerate(values):
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise ConfigError(f"Entry {i} of the vector is no number.")
    # False for NaN, too.
    if not -_MAX_VALUE <= value <= _MAX_VALUE:
      raise ConfigError(
        f"Entry {i} of the vector is {str(value):.12}; allowed is "
        f"-{_MAX_VALUE:g} to {_MAX_VALUE:g}."
      )
  return np.array(values, np.float32)


def checked_label(
  config: ConfigDict, values: Any
) -> Integer[np.ndarray, "..."]:
  """Returns values from outside as a label of a conditional model.

  Raises:
    ConfigError: They are no label of the data set.
  """
  count = config.data.num_labels
  scalar = config.model.condition == "label"
  highest = count - 1 if scalar else 1
  entries = [values] if scalar else values
  if not (
    isinstance(entries, list)
    and len(entries) == (1 if scalar else count)
    and all(type(v) is int and 0 <= v <= highest for v in entries)
  ):
    raise ConfigError(
      f"The label must be a whole number from 0 to {highest}."
      if scalar
      else f"The label must be {count} numbers, each 0 or 1."
    )
  return np.array(values, np.int32)
