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
_BITS = ("bits_per_dim", "nll_bits_per_dim")
_INACTIVE = (
  "No latent is active: the decoder does without the codes (posterior "
  "collapse). What may help: a KL weight that rises from 0 or is lower "
  "(config.objective.name=beta_vae with args.beta and args.warmup_steps), "
  "config.objective.name=free_bits, a weaker decoder, or longer training."
)
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
  for name, value in _flat(_without_bits(result)).items():
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
  if result.get("active_units") == 0:
    lines.append(_INACTIVE)
  return "\n".join(lines)


def _without_bits(result: dict[str, Any]) -> dict[str, Any]:
  """Returns a result without bits where there is no bound that has any."""
  missing = [k for k in _BITS if k in result and result[k] is None]
  if missing and all(result.get(k) is None for k in _BITS):
    missing.append("bits_of")
  return {k: v for k, v in result.items() if k not in missing}


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
