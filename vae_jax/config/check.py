"""Checks of single settings, before any work."""

import math
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config.errors import ConfigError
from vae_jax.config.overrides import flatten, get

_CHOICES = {
  "data.cache": ("none", "host"),
  "data.unreadable": ("stop", "skip"),
  "data.binarization": ("none", "static", "dynamic"),
  "data.dequantization": ("none", "uniform"),
  "model.condition": ("none", "label", "attributes"),
  "model.dtype": ("float32", "bfloat16"),
  "model.init": ("flax", "glorot", "torch"),
  "model.output_bias": ("init", "data"),
  "eval.split": ("train", "validation", "test", "all"),
  "eval.checkpoint": ("latest", "best"),
}
# Settings by their smallest allowed value.
_AT_LEAST = {
  0: """
    seed data.num_labels data.shift optim.warmup_steps
    optim.clip_norm optim.ema_decay optim.skip_norm train.num_steps
    train.num_epochs train.patience train.validate_every_steps
    checkpoint.keep_best eval.importance_samples eval.seed sample.seed
    sample.temperature watch.stall_seconds
  """,
  1: """
    data.num_threads model.latent_dim train.batch_size train.accumulate
    train.steps_per_call train.log_every_steps train.max_skips_in_row
    checkpoint.every_steps checkpoint.keep_latest eval.batch_size
  """,
  2: "eval.num_samples",
}
_ABOVE_0 = """
  optim.learning_rate optim.auxiliary.learning_rate watch.heartbeat_seconds
  watch.start_seconds
"""
_SEEDS = ("seed", "eval.seed", "sample.seed")


def _is_finite(value: Any) -> bool:
  if isinstance(value, tuple | list):
    return all(map(_is_finite, value))
  return not isinstance(value, float) or math.isfinite(value)


def _is_small(value: Any) -> bool:
  """Returns whether integers fit those of the devices."""
  if isinstance(value, tuple | list):
    return all(map(_is_small, value))
  return not isinstance(value, int) or abs(value) < 2**31


def validate(config: ConfigDict) -> None:
  """Checks every setting that has a fixed set or range of values.

  Raises:
    ConfigError: a value that no run could use.
  """

  def check(path: str, good: bool, allowed: str) -> None:
    if not good:
      raise ConfigError(
        f"config.{path} is {get(config, path)!r}; it must be {allowed}."
      )

  for path, choices in _CHOICES.items():
    check(path, get(config, path) in choices, f"one of {', '.join(choices)}")
  for least, paths in _AT_LEAST.items():
    for path in paths.split():
      good = least <= get(config, path) < math.inf
      check(path, good, f"a finite number, at least {least}")
  for path in _ABOVE_0.split():
    check(path, 0 < get(config, path) < math.inf, "a finite number above 0")
  for path in ("data.crop", "data.resize"):
    size = get(config, path)
    sides = size if isinstance(size, tuple | list) else (size, size)
    good = len(sides) == 2 and all(type(s) is int and s > 0 for s in sides)
    check(path, size == 0 or good, "a side in pixels, (height, width), or 0")
  limits = config.data.range
  good = len(limits) == 2 and all(type(v) in (int, float) for v in limits)
  good = not limits or (good and -math.inf < limits[0] < limits[1] < math.inf)
  check("data.range", good, "two numbers, the lower first, or ()")
  for path in _SEEDS:
    check(path, get(config, path) < 2**32, "below 2**32")
  for path, value in flatten(config).items():
    check(path, _is_finite(value), "finite")
    check(path, path in _SEEDS or _is_small(value), "below 2**31")
  check("optim.ema_decay", config.optim.ema_decay < 1, "below 1")
  train = config.train
  check(
    "train.batch_size",
    train.batch_size % train.accumulate == 0,
    f"a multiple of config.train.accumulate, {train.accumulate}",
  )
  if (train.num_steps > 0) == (train.num_epochs > 0):
    raise ConfigError(
      f"config.train.num_steps is {train.num_steps} and "
      f"config.train.num_epochs is {train.num_epochs}; exactly one of them "
      "must be above 0."
    )
