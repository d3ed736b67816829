"""Selects a function or class by the name in a config.

A module is a registry: each public function or class that it defines can be
selected by name, so no table has to be edited. Names in a config are in
snake_case; a class is written in CapWords, so that `lecture_mnist` selects
`LectureMnist`. A dotted path selects anything that can be imported.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import ConfigError, own_code


def public_values(module: ModuleType) -> dict[str, Callable[..., Any]]:
  """Returns {config name: value} of a module's own functions and classes."""
  return {
    _snake_case(name) if isinstance(value, type) else name: value
    for name, value in vars(module).items()
    if callable(value)
    and getattr(value, "__module__", "") == module.__name__
    and not name.startswith("_")
  }


def _snake_case(name: str) -> str:
  return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _cap_words(name: str) -> str:
  return "".join(word.capitalize() for word in name.split("_"))


def resolve(
  field: str,
  name: str,
  modules: Sequence[ModuleType],
  names: Sequence[str] | None = None,
) -> Any:
  """Returns the function or class that `config.<field>.name` selects.

  Args:
    field: dotted path of the node that holds `name`.
    name: a name of one of the modules' `public_values`, or a dotted path to
      anything that can be imported, such as my_package.my_module.my_loss; a
      class may be written as my_nets.MyNet or my_nets.my_net.
    modules: the registries in which plain names are looked up.
    names: the allowed plain names; None = all.

  Raises:
    ConfigError: there is no such name.
  """
  if "." in name:
    return _imported(field, name)
  known = {
    n: value
    for module in modules
    for n, value in public_values(module).items()
    if names is None or n in names
  }
  if name not in known:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
      f"config.{field}.name is {name!r}; allowed are "
      f"{', '.join(sorted(known))}, or a dotted path.{hint}"
    )
  return known[name]


def _imported(field: str, name: str) -> Any:
  path, _, attribute = name.rpartition(".")
  try:
    module = importlib.import_module(path)
  except ModuleNotFoundError as error:
    place = own_code.line_of(error)
    missing = error.name or path
    raise ConfigError(
      f"config.{field}.name is {name!r}, but {missing} cannot be "
      f"imported{f' ({place})' if place else ''}; is its folder on PYTHONPATH?"
    ) from error
  except (Exception, SystemExit) as error:
    place = own_code.line_of(error)
    raise ConfigError(
      f"config.{field}.name is {name!r}, but {path} cannot be imported"
      f"{f' ({place})' if place else ''}: {own_code.gist(error)}."
    ) from error
  for spelling in (attribute, _cap_words(attribute)):
    if hasattr(module, spelling):
      return getattr(module, spelling)
  raise ConfigError(
    f"config.{field}.name is {name!r}, but {path} has no {attribute} "
    f"({getattr(module, '__file__', None) or 'a folder'})."
  )


def keyword_arguments(function: Callable[..., Any]) -> dict[str, Any]:
  """Returns {name: default} of a function's keyword-only parameters."""
  return {
    p.name: p.default
    for p in inspect.signature(function).parameters.values()
    if p.kind is p.KEYWORD_ONLY
  }


def check_arguments(
  field: str, name: str, args: ConfigDict, known: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns `config.<field>.args` as a dict, checked against `known`, the
  {argument: default} of the function or class called `name`.

  Raises:
    ConfigError: an argument is unknown or of another type than its default.
  """
  values = args.to_dict()
  takes = ", ".join(sorted(known)) or "no arguments"
  for key, value in values.items():
    if key not in known:
      raise ConfigError(
        f"config.{field}.args.{key} is unknown to {name}, which takes {takes}; "
        f"--config.{field}.args={{}} drops the arguments of a config file."
      )
    if not _same_kind(value, known[key]):
      raise ConfigError(
        f"config.{field}.args.{key} is {value!r}; {name} takes a "
        f"{type(known[key]).__name__} there, such as {known[key]!r}."
      )
  return values


def _same_kind(value: Any, default: Any) -> bool:
  if default is None or default is inspect.Parameter.empty:
    return True
  if isinstance(default, bool) or isinstance(value, bool):
    return isinstance(value, bool) and isinstance(default, bool)
  if isinstance(default, float):
    return isinstance(value, int | float)
  if isinstance(default, tuple):
    if not isinstance(value, tuple | list):
      return False
    return not default or all(_same_kind(v, default[0]) for v in value)
  return isinstance(value, type(default))
