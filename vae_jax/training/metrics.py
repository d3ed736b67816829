"""Means of metrics over steps and over examples, and bits per dimension."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def bits_per_dim(
  nats: float, dims: int, *, is_density: bool, dequantized: bool = False
) -> float:
  """Returns nats per image as bits per pixel and channel.

  A probability of pixel values gives nats / (dims ln 2). A density of pixels
  in [0, 1] is first expressed per gray level (x 1/255), which adds ln 255
  nats per dimension: comparable in size with a probability, but only an
  approximation of one, and no bound. With uniform noise between the 256
  levels ln 256 is added instead, and the result is a bound on the bits of a
  probability; see `distributions.Dequantized`.

  Args:
    nats: -log p of an image, or a bound on it.
    dims: height x width x channels.
    is_density: whether p is a density of pixels in [0, 1].
    dequantized: whether it is the density of (image + noise) / 256.
  """
  levels = (256 if dequantized else 255) if is_density else 1
  return (nats / dims + math.log(levels)) / math.log(2)


class StepMeans:
  """Means of metrics over optimizer steps.

  A skipped step counts under "skipped" and is left out of the other means,
  because its metrics may be nan.
  """

  def __init__(self):
    self._steps: list[dict[str, np.ndarray]] = []

  def add(self, metrics: Mapping[str, np.ndarray]) -> None:
    """Adds per-step values [n] by name."""
    self._steps.append({k: np.asarray(v) for k, v in metrics.items()})

  def result(self) -> dict[str, float | None]:
    """Returns the means since the last call, and "steps", their number; a mean
    over no step is None."""
    joined = {
      k: np.concatenate([s[k] for s in self._steps]).astype(np.float64)
      for k in (self._steps[0] if self._steps else {})
    }
    self._steps = []
    if not joined:
      return {}
    taken = joined["skipped"] == 0
    row: dict[str, float | None] = {
      k: float(v[taken].mean()) if taken.any() else math.nan
      for k, v in joined.items()
    }
    counts = {"skipped": int(joined["skipped"].sum()), "steps": len(taken)}
    return finite(row | counts)


class MaskedMeans:
  """Means over examples, each counted once, from sums over batches."""

  def __init__(self):
    self._sums: dict[str, float] = {}

  def add(self, sums: Mapping[str, np.ndarray]) -> None:
    """Adds sums over a batch's examples by name; "count" is their number."""
    for name, value in sums.items():
      # Python floats: the sum over many batches is in float64.
      self._sums[name] = self._sums.get(name, 0.0) + float(value)

  def result(self) -> dict[str, float]:
    """Returns the means by name, and "num_examples"."""
    count = self._sums["count"]
    means = {k: v / count for k, v in self._sums.items() if k != "count"}
    return {**means, "num_examples": int(count)}


def finite(values: Any) -> Any:
  """Returns a tree of dicts and lists with None for nan and infinities,
  because JSON lacks them."""
  if isinstance(values, Mapping):
    return {k: finite(v) for k, v in values.items()}
  if isinstance(values, list | tuple):
    return [finite(v) for v in values]
  if isinstance(values, float) and not math.isfinite(values):
    return None
  return values
