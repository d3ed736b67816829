"""First weights from another run: `config.init_from` and `init_from_parts`.

Weights, averaged ones where the run has them, and model state are copied by
name; optimizer and step start anew.
"""

from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.models import Variables

# Names in the config, and of the parts of a model.
_PARTS = {
  **{k: k for k in ("encoder", "posterior", "decoder", "likelihood")},
  "prior": "latent_prior",
  "auxiliary": "auxiliary",
}
_SHOWN = 5  # Differences in a message, at most.

# Arrays by their path: collection, part, and so on.
_Flat = dict[tuple[str, ...], Any]


def parts(config: ConfigDict) -> list[str]:
  """Returns the names of the parts to copy.

  Raises:
    ConfigError: a name is unknown, or there is no run to copy from.
  """
  field, value = "config.init_from_parts", config.init_from_parts
  if not value:
    return list(_PARTS)
  if not config.init_from:
    raise ConfigError(
      f"{field} is {value!r}, but config.init_from names no run."
    )
  names = [name.strip() for name in value.split(",")]
  for name in names:
    if name not in _PARTS:
      raise ConfigError(
        f"{field} is {value!r}; it must be names of {', '.join(_PARTS)}, "
        "separated by commas."
      )
  return names


def merge(config: ConfigDict, ours: Variables, theirs: Variables) -> Variables:
  """Returns our variables with those of their parts that the config names; see
  `fitting`."""
  flat = flatten(ours)
  copied = {
    path: np.asarray(value, flat[path].dtype)
    for path, value in fitting(config, ours, theirs).items()
  }
  return traverse_util.unflatten_dict(flat | copied)


def fitting(config: ConfigDict, ours: Variables, theirs: Variables) -> _Flat:
  """Returns their variables, arrays or shapes, of the parts that the config
  names.

  A network of the objective's own, `auxiliary`, that one run alone has is left
  as it is, unless it is named.

  Raises:
    ConfigError: names or shapes differ from those of our variables.
  """
  chosen = {_PARTS[name] for name in parts(config)}
  here, there = (
    {k: v for k, v in flatten(tree).items() if _is_of(k, v, chosen)}
    for tree in (ours, theirs)
  )
  if not config.init_from_parts and (_has_own(here) != _has_own(there)):
    here, there = map(_without_own, (here, there))
  lines = [
    f"{'/'.join(path)} is {_shape(here, path)} here and "
    f"{_shape(there, path)} there"
    for path in sorted(here.keys() | there.keys())
    if _shape(here, path) != _shape(there, path)
  ]
  for name in parts(config) if config.init_from_parts else ():
    if not any(path[1] == _PARTS[name] for path in here):
      lines.append(f"the {name} has no weights")
  if lines:
    more = len(lines) - _SHOWN
    raise ConfigError(
      f"config.init_from is {config.init_from!r}, whose weights do not fit: "
      f"{'; '.join(lines[:_SHOWN])}"
      f"{f'; and {more} more' if more > 0 else ''}. config.init_from_parts "
      "takes those of some parts alone, such as encoder,decoder."
    )
  return there


def flatten(variables: Variables) -> _Flat:
  """Returns arrays, and empty collections, by their path."""
  return traverse_util.flatten_dict(variables, keep_empty_nodes=True)


def _is_of(path: tuple[str, ...], value: Any, chosen: set[str]) -> bool:
  is_array = value is not traverse_util.empty_node
  return is_array and path[1:] != () and path[1] in chosen


def _has_own(flat: _Flat) -> bool:
  return any(path[1] == "auxiliary" for path in flat)


def _without_own(flat: _Flat) -> _Flat:
  return {k: v for k, v in flat.items() if k[1] != "auxiliary"}


def _shape(flat: _Flat, path: tuple[str, ...]) -> str:
  return str(np.shape(flat[path])) if path in flat else "missing"
