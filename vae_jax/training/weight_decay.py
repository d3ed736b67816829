"""Weight decay: which weights an optimizer of optax shrinks.

By default it shrinks the kernels of encoder, decoder and posterior, and of an
objective's own network: biases, scales, the parameters of priors and
likelihoods, and multipliers are no slopes that overfit.
"""

import inspect
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from vae_jax.config import ConfigError

# Values of the arguments `mask` and `weight_decay_mask`.
_KINDS = ("kernels", "all")
_ARGUMENTS = ("mask", "weight_decay_mask")
_RATES = ("weight_decay", "weight_decay_rate")
_PARTS = ("encoder", "decoder", "posterior", "auxiliary")


def argument(name: str) -> str | None:
  """Returns the argument of an optimizer that says what decays, if any."""
  function = getattr(optax, name, None)
  takes = inspect.signature(function).parameters if callable(function) else {}
  return next((k for k in _ARGUMENTS if k in takes), None)


def resolve(node: ConfigDict) -> None:
  """Sets the default of an optimizer's mask.

  No mask in the config of a run means all weights, as in earlier releases.
  """
  key = argument(node.name)
  if key is None:
    return
  if key not in node.args:
    node.args[key] = "kernels"
  elif node.args[key] == "all":
    del node.args[key]


def masks(field: str, node: ConfigDict) -> dict[str, Any]:
  """Returns the mask of an optimizer, as the keyword argument of optax.

  Args:
    field: dotted path of the node, for messages.
    node: of the optimizer; its mask is `kernels`, `all` or not set.

  Raises:
    ConfigError: it is another.
  """
  key = argument(node.name)
  if key is None or key not in node.args:
    return {}
  kind = node.args[key]
  if kind not in _KINDS:
    raise ConfigError(
      f"config.{field}.args.{key} is {kind!r}; allowed are {', '.join(_KINDS)}."
    )
  return {} if kind == "all" else {key: _kernels}


def _kernels(params: Any) -> Any:
  """Returns a tree that is True for the weights that decay."""

  def decays(path: tuple[Any, ...], leaf: jax.Array) -> bool:
    first, last = (getattr(path[i], "key", None) for i in (0, -1))
    return first in _PARTS and last == "kernel" and leaf.ndim >= 2

  return jax.tree_util.tree_map_with_path(decays, params)


def described(config: ConfigDict, params: Any) -> list[str]:
  """Returns a line that says which weights decay; none if none do."""
  node = config.optim.optimizer
  function = getattr(optax, node.name, None)
  takes = inspect.signature(function).parameters if callable(function) else {}
  key = next((k for k in _RATES if k in takes), None)
  rate = node.args.get(key, takes[key].default) if key else None
  if not rate:
    return []
  tree = {k: v for k, v in params.items() if k != "auxiliary"}
  chosen = jax.tree.map(lambda _: True, tree)
  if masks("optim.optimizer", node):
    chosen = _kernels(tree)
  leaves = jax.tree_util.tree_leaves_with_path(chosen)
  names = {f"{p[0].key} {p[-1].key}" for p, decays in leaves if decays}
  count = sum(decays for _, decays in leaves)
  return [
    f"decay       {rate} per step, of {count} of {len(leaves)} arrays: "
    f"{', '.join(sorted(names))}"
  ]
