"""Reading and writing settings by their dotted paths, and configs as JSON."""

import difflib
import json
import os
import re
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config.errors import ConfigError, reason
from vae_jax.config.schema import FREE_FIELDS, default

# Settings of a data set that say nothing about another one.
_OF_DATA_SET = (
  "data.digest",
  "data.label",
  "data.range",
  "data.stored_size",
  "data.test_split",
  "data.train_split",
  "data.validation_split",
)
# What a trained model reads, whatever the data set.
_OF_MODEL = (
  "data.binarization",
  "data.dequantization",
  "data.image_shape",
  "data.num_labels",
)
# Two ways to give the length of a run.
_LENGTHS = ("train.num_steps", "train.num_epochs")


def flatten(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
  """Returns {dotted path: value} of every setting."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict | dict):
      flat |= {f"{key}.{k}": v for k, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def get(config: ConfigDict, path: str) -> Any:
  """Returns the value at a dotted path."""
  for key in path.split("."):
    config = config[key]
  return config


def update(config: ConfigDict, path: str, value: Any) -> None:
  """Sets the value at a dotted path, which must exist or lie in `args`."""
  parent, _, key = path.rpartition(".")
  node = get(config, parent) if parent else config
  node[key] = value


def check_path(path: str) -> None:
  """Raises a ConfigError, which names the nearest setting, unless a dotted
  path is a setting or lies in an `args` node."""
  inner = re.match(r"(.*?\bargs)(\.|$)", path)
  try:
    get(default(), inner.group(1) if inner else path)
  except (KeyError, TypeError) as error:
    known, key = list(flatten(default())), path.rpartition(".")[2]
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    near += [k for k in known if k.rpartition(".")[2] == key]
    hint = f" Did you mean config.{near[0]}?" if near else ""
    raise ConfigError(f"There is no setting config.{path}.{hint}") from error


def file_error(path: str, error: Exception) -> str:
  """Returns one sentence for an error of ml_collections in a config file."""
  key = re.search(
    r'Key "(\w+)" does not exist|Did you mean ".*" instead of "(\w+)"',
    str(error),
  )
  if not key:
    return f"{path}: {reason(error)}."
  near = re.search(r'Did you mean "(\w+)"', str(error))
  hint = f"; did you mean {near.group(1)!r}" if near else ""
  name = key.group(1) or key.group(2)
  return f"{path} names {name!r}, which is no setting{hint}."


def override_length(config: ConfigDict, overrides: dict[str, Any]) -> None:
  """Lets the run length of the command line replace that of the config file.

  `train.num_steps` alone on the command line sets `train.num_epochs` to 0, and
  the other way round. Both together are left to `check.validate`. The config
  already has the overrides {dotted path: value}.
  """
  lengths = [path for path in _LENGTHS if overrides.get(path)]
  if len(lengths) == 1:
    (other,) = set(_LENGTHS) - set(lengths)
    update(config, other, type(get(config, other))(0))


def override_for_use(
  config: ConfigDict, overrides: dict[str, Any], *, other_data: bool = False
) -> None:
  """Applies command-line overrides to the saved config of a trained model.

  With `other_data` the data set may be another one, whose splits and label are
  then those of the overrides, by default its own.

  Raises:
    ConfigError: an override would make it another model than was trained.
  """
  flat = flatten(config)
  name = overrides.get("data.name", "")
  if other_data and name and not _means(name, flat["data.name"]):
    for path in _OF_DATA_SET:
      update(config, path, get(default(), path))
    flat = flatten(config)
  for path, value in overrides.items():
    free = path in FREE_FIELDS or path.startswith(("eval.", "sample."))
    of_data = path.startswith("data.") and path not in _OF_MODEL
    if free or (other_data and of_data and not _means(value, flat.get(path))):
      update(config, path, value)
    elif not _automatic(path, value) and not _means(value, flat.get(path)):
      raise ConfigError(
        f"config.{path} is {value!r} here, but the model was trained with "
        f"{flat.get(path)!r}; only eval.*, sample.* and settings of the "
        "machine may change."
      )


def _automatic(path: str, value: Any) -> bool:
  """Returns whether an override leaves its setting to the data or to another
  setting."""
  of_data = path == "data.num_labels" or path.endswith(".dataset_size")
  return value in ("", ()) or (not value and (of_data or path in _LENGTHS))


def _means(value: Any, resolved: Any) -> bool:
  """Returns whether a value may resolve to another: fashion_mnist to
  fashion_mnist:3.0.1, a to a/config:1.0.0, or folder:x to its full path."""
  if isinstance(value, str) and isinstance(resolved, str):
    kind, _, path = value.partition(":")
    if kind in ("folder", "arrays"):
      value = f"{kind}:{os.path.abspath(os.path.expanduser(path))}"
    return value == resolved or resolved.startswith((value + ":", value + "/"))
  return value == resolved


def to_json(config: ConfigDict) -> str:
  """Returns the config as JSON, which `from_json` reads."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str | bytes, file: str = "config.json") -> ConfigDict:
  """Returns the config that `to_json` wrote.

  Args:
    text: content of a file.
    file: its name, for messages.

  Raises:
    ConfigError: the content is damaged, or of another release.
  """
  config = default()
  try:
    tree = json.loads(text)
  except ValueError as error:
    raise ConfigError(
      f"{file} is cut short or damaged ({reason(error)})."
    ) from error
  if not isinstance(tree, dict):
    raise ConfigError(f"{file} holds {repr(tree)[:80]}, no settings.")
  _overwrite(config, tree, file, "")
  return config


def _overwrite(
  config: ConfigDict, tree: dict[str, Any], file: str, prefix: str
) -> None:
  for key, value in tree.items():
    path = f"{prefix}{key}"
    try:
      if isinstance(value, dict):
        _overwrite(config[key], value, file, f"{path}.")
      elif isinstance(config.get(key), ConfigDict) or (
        value is None and "args." not in path
      ):
        # ConfigDict takes both.
        raise TypeError(path)
      else:
        config[key] = tuple(value) if isinstance(value, list) else value
    except KeyError as error:
      raise ConfigError(
        f"{file} has the setting {path}, which this release does not know."
      ) from error
    except (TypeError, ValueError, AttributeError) as error:
      if isinstance(error, ConfigError):
        raise
      raise ConfigError(
        f"{file} sets {path} to {value!r}, which it cannot be."
      ) from error


def differences(ours: ConfigDict, theirs: ConfigDict) -> list[str]:
  """Returns a line for each field that makes two configs different runs."""
  a, b = flatten(ours), flatten(theirs)
  return [
    f"config.{path}: {a.get(path, 'not set')} here, "
    f"{b.get(path, 'not set')} there"
    for path in sorted(a.keys() | b.keys())
    if a.get(path) != b.get(path)
    and path not in FREE_FIELDS
    and not path.startswith("eval.features.args")
  ]
