"""Config files: `get_config()` in a Python file, and its mistakes."""

import importlib.machinery
import importlib.util
import inspect
import re
import sys
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import own_code, schema
from vae_jax.config.errors import ConfigError
from vae_jax.config.overrides import file_error, flatten

_MODULE = "config_file"
_START = "start from `c = vae_jax.config.default()` and end with `return c`"


def load(path: str) -> ConfigDict:
  """Returns what `get_config` of a file returns.

  Args:
    path: FILE.py, or FILE.py:VARIANT, whose variant is its argument.

  Raises:
    ConfigError: the file is no such file; one sentence with its line.
  """
  file, _, variant = path.partition(":")
  get_config = getattr(_module(file), "get_config", None)
  if not callable(get_config):
    raise ConfigError(
      f"{file} has no function get_config(); {_START}, see configs/README.md."
    )
  arguments = [variant] if variant else []
  _check_variant(file, get_config, arguments)
  try:
    config = get_config(*arguments)
  except ConfigError:
    raise
  except (Exception, SystemExit) as error:
    # Of ml_collections: a setting that does not exist, or of another type.
    if isinstance(error, KeyError | AttributeError) and re.search(
      "Key |Did you mean", str(error)
    ):
      text = file_error(file, error).removeprefix(file)
      raise ConfigError(f"{own_code.line_of(error) or file}{text}") from error
    raise _failed(file, error) from error
  _check(file, get_config, config)
  return config


def _module(file: str) -> Any:
  loader = importlib.machinery.SourceFileLoader(_MODULE, file)
  spec = importlib.util.spec_from_loader(_MODULE, loader)
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look their module up.
  sys.modules[_MODULE] = module
  try:
    loader.exec_module(module)
  except ConfigError:
    raise
  except (Exception, SystemExit) as error:
    raise _failed(file, error) from error
  return module


def _failed(file: str, error: BaseException) -> ConfigError:
  place = own_code.line_of(error) or file
  if isinstance(error, SystemExit):
    return ConfigError(f"{place}: the config file ends the program.")
  if isinstance(error, ModuleNotFoundError):
    return ConfigError(
      f"{place}: imports {error.name}, which is not there; is its folder on "
      "PYTHONPATH?"
    )
  return ConfigError(f"{place}: {own_code.gist(error)}.")


def _check_variant(file: str, get_config: Any, arguments: list[str]) -> None:
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    if arguments:
      raise ConfigError(
        f"{file} has no variants, as {arguments[0]!r}."
      ) from error
    raise ConfigError(
      f"{file}: get_config{inspect.signature(get_config)} needs a variant: "
      f"--config={file}:VARIANT."
    ) from error


def _check(file: str, get_config: Any, config: Any) -> None:
  """Raises a ConfigError unless a config has all settings, and no others."""
  place = own_code.definition(get_config) or file
  if not isinstance(config, ConfigDict):
    what = "None" if config is None else f"a {type(config).__name__}"
    raise ConfigError(f"{place}: get_config() returned {what}; {_START}.")
  ours, theirs = flatten(schema.default()), flatten(config)
  missing = [path for path in ours if path not in theirs]
  if missing:
    raise ConfigError(
      f"{place}: get_config() returned a config without {missing[0]}"
      f"{f' and {len(missing) - 1} more' if missing[1:] else ''}; {_START}."
    )
  for path, value in ours.items():
    numbers = isinstance(value, float) and isinstance(theirs[path], int)
    if not isinstance(theirs[path], type(value)) and not numbers:
      raise ConfigError(
        f"{place}: get_config() sets {path} to {theirs[path]!r}; it must be a "
        f"{type(value).__name__}, such as {value!r}."
      )
  more = [p for p in theirs if p not in ours and ".args." not in p]
  if more:
    raise ConfigError(
      f"{place}: get_config() sets {more[0]!r}, which is no setting."
    )
