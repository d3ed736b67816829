"""From a name in the config to a function or class: modules are registries.

Whatever a module defines under a public lower-case name can be selected by
it; there is no table to edit. A dotted path selects anything importable.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import ConfigError


def public_names(module: ModuleType) -> list[str]:
  """Returns the sorted lower-case names of what a module itself defines."""
  return sorted(
    name
    for name, value in vars(module).items()
    if callable(value)
    and getattr(value, "__module__", "") == module.__name__
    and not name.startswith("_")
    and name == name.lower()
  )


def resolve(
  field: str,
  name: str,
  modules: list[ModuleType],
  names: list[str] | None = None,
) -> Any:
  """Returns what `config.<field>.name` says: the modules are the registry.

  Args:
    field: dotted path of the node that holds `name`.
    name: a public name of one of the modules, or a dotted path to anything
      that can be imported, as my_package.my_module.my_loss.
    modules: where plain names are looked up.
    names: the allowed ones among their public names; None = all.

  Raises:
    ConfigError: there is no such name.
  """
  if "." in name:
    path, _, attribute = name.rpartition(".")
    try:
      return getattr(importlib.import_module(path), attribute)
    except ModuleNotFoundError as error:
      if not path.startswith(str(error.name)):
        raise
      raise ConfigError(
        f"config.{field}.name is {name!r}, but {error.name} cannot be "
        "imported; is its folder on PYTHONPATH?"
      ) from error
    except AttributeError as error:
      raise ConfigError(
        f"config.{field}.name is {name!r}, but {path} has no {attribute}."
      ) from error
  known = {
    n: m
    for m in modules
    for n in public_names(m)
    if names is None or n in names
  }
  if name not in known:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
      f"config.{field}.name is {name!r}; allowed are "
      f"{', '.join(sorted(known))}, or a dotted path.{hint}"
    )
  return getattr(known[name], name)


def keyword_arguments(function: Callable[..., Any]) -> dict[str, Any]:
  """Returns {name: default} of a function's keyword-only parameters."""
  return {
    p.name: p.default
    for p in inspect.signature(function).parameters.values()
    if p.kind is p.KEYWORD_ONLY
  }


def check_arguments(
  field: str, name: str, args: ConfigDict, known: dict[str, Any]
) -> dict[str, Any]:
  """Returns `config.<field>.args` as a dict, checked against `known`.

  Args:
    field: dotted path of the node that holds `name` and `args`.
    name: what the arguments are for.
    args: the arguments.
    known: {argument: default}, what `name` takes; a number is not accepted
      for a string, nor the other way round.

  Raises:
    ConfigError: an argument is unknown or of another type than its default.
  """
  given = args.to_dict()
  takes = ", ".join(sorted(known)) or "no arguments"
  for key, value in given.items():
    if key not in known:
      raise ConfigError(
        f"config.{field}.args.{key} is unknown to {name}, which takes {takes}."
      )
    if not _same_kind(value, known[key]):
      raise ConfigError(
        f"config.{field}.args.{key} is {value!r}; {name} takes a "
        f"{type(known[key]).__name__} there, as {known[key]!r}."
      )
  return given


def _same_kind(value: Any, example: Any) -> bool:
  if example is None or example is inspect.Parameter.empty:
    return True
  if isinstance(example, bool) or isinstance(value, bool):
    return isinstance(value, bool) and isinstance(example, bool)
  if isinstance(example, float):
    return isinstance(value, int | float)
  if isinstance(example, tuple):
    return isinstance(value, tuple | list)
  return isinstance(value, type(example))
