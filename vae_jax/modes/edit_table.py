"""The scores of an edit as a table."""

from typing import Any

from vae_jax.evaluate import smallest_strength


def table(result: dict[str, Any]) -> str:
  """Returns the scores of `--mode=edit` by kind of direction: at the smallest
  strengths that reach the target, and at the ends of all strengths."""
  lines = [
    f"{result['attribute']}, measured as {result['target']} on "
    f"{result['images']} images of the test split"
  ]
  for way in smallest_strength.WAYS:
    lines += _smallest(result, way)
  strengths = result["strength"]
  lines += [
    f"at the ends of strengths {strengths[0]:g} to {strengths[-1]:g}:",
    f"{'direction':>10}  success  monotone  side_effect  identity  largest",
  ]
  for kind, score in result["directions"].items():
    lines.append(
      f"{kind:>10}  {score['success']:7.3f}  {score['monotone']:8.3f}  "
      f"{_effects(score)}"
    )
  return "\n".join(lines)


def _smallest(result: dict[str, Any], way: str) -> list[str]:
  """Returns the lines of one way of editing."""
  lines = [
    f"at the smallest strength that makes it clearly {way}, of images where it "
    "is not:",
    f"{'direction':>10}   median     never  side_effect  identity  largest",
  ]
  for kind, score in result["directions"].items():
    own = score[way]
    if not own["images"]:
      lines.append(f"{kind:>10}  it is clearly {way} in all images")
      continue
    median = own["median"]
    shown = f">{smallest_strength.LARGEST:g}" if median is None else median
    shown = shown if isinstance(shown, str) else f"{shown:.2f}"
    lines.append(
      f"{kind:>10}  {shown:>7}  {own['never']:8.3f}  {_effects(own)}"
    )
  return lines


def _effects(score: dict[str, Any]) -> str:
  """Returns what else changes: the mean, the identity, the largest."""
  worst = score["worst"]
  mean, identity, largest = (
    "none" if v is None else f"{v:.3f}"
    for v in (score["side_effect"], score["identity"], worst["side_effect"])
  )
  return f"{mean:>11}  {identity:>8}  {worst['attribute']} {largest}"
