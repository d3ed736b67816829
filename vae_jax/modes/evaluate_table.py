"""Formats the results of an evaluation as lines of text."""

import math
from typing import Any

_NATS = {
  "distortion",
  "neg_iwae",
  "loss",
  "mutual_information",
  "neg_elbo",
  "nll",
  "nll_stderr",
  "rate",
}
_UNITS = {
  "bits_per_dim": "bits",
  "marginal_kl": "nats per image, rate less mutual_information",
  "nll_bits_per_dim": "bits",
  "effective_samples": "draws",
  "importance_samples": "draws per image",
  "mutual_information_examples": "images",
  "num_examples": "images",
  "squared_error": "per image, pixels in [0, 1]",
  "step": "steps",
}


def table(result: dict[str, Any]) -> str:
  """Returns an evaluation as lines of name, value and unit."""
  lines = []
  for name, value in _flat(result).items():
    unit = "nats per image" if name in _NATS else _UNITS.get(name, "")
    if name == "mutual_information":
      # The estimate cannot exceed the entropy of the choice of an image.
      unit += f", at most {math.log(result[name + '_examples']):.4f}"
    if isinstance(value, float):
      shown = f"{value:12.4f}"
    elif isinstance(value, list):
      shown = f"{', '.join(map(str, value)) or 'none':>12}"
    else:
      shown = f"{'none' if value is None else value!s:>12}"
    lines.append(f"{name:>28}  {shown}  {unit}".rstrip())
  return "\n".join(lines)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict) and set(value) == {"mean", "interval"}:
      low, high = value["interval"]
      flat[prefix + name] = f"{value['mean']:.4f} ({low:.4f} to {high:.4f})"
    elif isinstance(value, dict):
      flat.update(_flat(value, f"{prefix}{name}."))
    else:
      flat[prefix + name] = value
  return flat
