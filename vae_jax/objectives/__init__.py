"""Losses: each one a pure function `(vae, batch, *, ...) -> Terms`.

The modules of this package are the registry: `config.objective.name` takes the
name of a public function in one of them whose positional parameters are `vae`
and `batch`, or a dotted path to one elsewhere. There is no table to edit. In
every loss `vae` is the bound model and `batch` this device's examples; the
keyword arguments are hyperparameters.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import ConfigError, own_code, registry
from vae_jax.objectives import base, constraints
from vae_jax.objectives.base import Auxiliary, Terms, frozen, needs, one_draw
from vae_jax.objectives.constraints import at_least, at_most, between, choice

__all__ = [
  "Terms",
  "at_least",
  "at_most",
  "auxiliary_of",
  "between",
  "choice",
  "from_config",
  "frozen",
  "hyperparameters",
  "names",
  "needs",
  "one_draw",
]

Objective = Callable[..., Terms]


def _is_objective(value: object) -> bool:
  if not callable(value) or isinstance(value, type):
    return False
  try:
    parameters = inspect.signature(value).parameters.values()
  except ValueError:  # Of functions that are not written in Python.
    return False
  positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
  return positional == ["vae", "batch"]


def _modules() -> list[ModuleType]:
  return [
    importlib.import_module(f"{__name__}.{info.name}")
    for info in pkgutil.iter_modules(__path__)
    if info.name != base.__name__.rpartition(".")[2]  # It holds `one_draw`.
  ]


def names() -> list[str]:
  """Returns the names of all objectives of this package, sorted."""
  return sorted(
    name
    for module in _modules()
    for name, value in registry.public_values(module).items()
    if _is_objective(value)
  )


def _function(config: ConfigDict) -> Objective:
  name = config.objective.name
  function = registry.resolve("objective", name, _modules(), names())
  fault = ""
  if not _is_objective(function):
    place = own_code.definition(function)
    where = f" ({place})" if place else ""
    fault = f"{where}, which is no function of (vae, batch, *, ...) but "
    fault += f"{_words(function)}."
  elif "step" in inspect.signature(function).parameters:
    fault = ", which declares an argument step; remove it and use batch.step, "
    fault += "the optimizer steps so far."
  if fault:
    raise ConfigError(f"config.objective.name is {name!r}{fault}")
  return function


def _words(value: object) -> str:
  """Returns what a value is that is no objective."""
  if isinstance(value, type):
    return "a class"
  if not callable(value):
    return f"{value!r}"
  return f"one of {inspect.signature(value)}; hyperparameters stand after a *"


def auxiliary_of(config: ConfigDict) -> Auxiliary | None:
  """Returns the network that the config's objective declares, if any.

  Raises:
    ConfigError: as `hyperparameters`.
  """
  return getattr(_function(config), "auxiliary", None)


def hyperparameters(config: ConfigDict) -> dict[str, Any]:
  """Returns {name: default} of what the config's objective takes.

  Raises:
    ConfigError: the name is unknown or is no objective.
  """
  return registry.keyword_arguments(_function(config))


def from_config(config: ConfigDict) -> Objective:
  """Returns `config.objective` as a function `(vae, batch)`.

  Raises:
    ConfigError: the name is unknown or is no objective; or an argument is
      unknown to its signature, or does not meet a constraint there.
  """
  function, node = _function(config), config.objective
  args = registry.check_arguments(
    "objective", node.name, node.args, hyperparameters(config)
  )
  constraints.check(function, args)
  return functools.partial(function, **args)
