"""Modules of a config's names and arguments, with errors that name them."""

import dataclasses
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from vae_jax import models
from vae_jax.config import ConfigError, own_code, registry


def make(
  field: str, node: ConfigDict, name: str, cls: Any, settings: dict[str, Any]
) -> nn.Module:
  """Returns a part of the model, an instance of `cls`.

  Args:
    field: dotted path of `node`.
    node: node of the config whose `args` are the part's hyperparameters.
    name: name of the class, for messages.
    cls: class of the part.
    settings: values that the part receives if it declares a field of that
      name; all its other fields are hyperparameters.

  Raises:
    ConfigError: `cls` is no module, or an argument is unknown.
  """
  title = f"config.{field}.name is {name!r}"
  if field.endswith(".auxiliary"):
    title = f"The network of the objective is {name}"
  place = own_code.definition(cls)
  title += f" ({place})" if place else ""
  if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
    raise ConfigError(
      f"{title}, which is no flax.linen.Module (flax.nnx is another library)."
    )
  fields = {
    f.name: f.default
    if f.default_factory is dataclasses.MISSING
    else f.default_factory()
    for f in dataclasses.fields(cls)
    if f.init
  }
  del fields["parent"], fields["name"]
  known = {
    k: None if default is dataclasses.MISSING else default
    for k, default in fields.items()
    if k not in settings
  }
  args = registry.check_arguments(field, name, node.args, known)
  if cls.__module__.startswith("vae_jax."):
    for key, value in args.items():
      _check_size(f"config.{field}.args.{key}", key, value)
  filled = {k: v for k, v in settings.items() if k in fields} | args
  at = f" ({place})" if place else ""
  missing = [
    k
    for k, default in fields.items()
    if default is dataclasses.MISSING and k not in filled
  ]
  if missing:
    raise ConfigError(
      f"config.{field}.args.{missing[0]} has no value, which {name}{at} needs; "
      "give it one, or a default in the class."
    )
  try:
    return cls(**filled)
  except ConfigError:
    raise
  except Exception as error:
    place = own_code.line_of(error)
    raise ConfigError(
      f"{title}, which cannot be built with {args}"
      f"{f' at {place}' if place else ''}: {own_code.gist(error)}."
    ) from error


def _check_size(path: str, key: str, value: Any) -> None:
  """Checks a number that all networks of this package read alike."""
  good, allowed = True, ""
  if isinstance(value, tuple | list):
    good, allowed = all(n >= 1 for n in value), "numbers of at least 1"
  elif key == "kernel_size":
    good, allowed = value >= 1, "at least 1"
  elif key == "depth":
    good, allowed = value >= 0, "0 or more"
  elif key == "dropout":
    good, allowed = 0 <= value < 1, "at least 0 and below 1"
  if not good:
    raise ConfigError(f"{path} is {value!r}; it must be {allowed}.")


def num_outputs(name: str, likelihood: nn.Module, channels: int) -> int:
  """Returns the numbers per pixel that a likelihood reads."""
  field = f"config.model.likelihood.name is {name!r}, whose num_outputs"
  try:
    count = models.decoder_outputs(likelihood, channels)
  except ConfigError:
    raise
  except Exception as error:
    place = own_code.line_of(error)
    place = place or own_code.definition(type(likelihood).num_outputs)
    raise ConfigError(
      f"{field}({channels}) fails at {place}: {own_code.gist(error)}."
    ) from error
  if not isinstance(count, int) or count < 1:
    raise ConfigError(
      f"{field}({channels}) is {count!r}; it must be the numbers per pixel, 1 "
      "or more."
    )
  return count
