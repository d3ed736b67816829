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
  "eval.split": ("train", "validation", "test"),
  "eval.checkpoint": ("latest", "best"),
}
# Smallest allowed values; `_ABOVE` is exclusive.
_AT_LEAST = {
  "seed": 0,
  "data.num_labels": 0,
  "data.shift": 0,
  "data.num_threads": 1,
  "model.latent_dim": 1,
  "optim.warmup_steps": 0,
  "optim.clip_norm": 0,
  "optim.ema_decay": 0,
  "optim.skip_norm": 0,
  "train.num_steps": 0,
  "train.num_epochs": 0,
  "train.batch_size": 1,
  "train.accumulate": 1,
  "train.steps_per_call": 1,
  "train.log_every_steps": 1,
  "train.validate_every_steps": 0,
  "train.max_skips_in_row": 1,
  "checkpoint.every_steps": 1,
  "checkpoint.keep_latest": 1,
  "checkpoint.keep_best": 0,
  "eval.batch_size": 1,
  "eval.importance_samples": 0,
  "eval.num_samples": 2,
  "eval.seed": 0,
  "sample.seed": 0,
  "sample.temperature": 0,
  "watch.stall_seconds": 0,
}
_ABOVE = {
  "optim.learning_rate": 0,
  "optim.auxiliary.learning_rate": 0,
  "watch.heartbeat_seconds": 0,
  "watch.start_seconds": 0,
}


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
    ConfigError: a value that no run could use; the message names the field,
      its value and what is allowed.
  """

  def check(path: str, good: bool, allowed: str) -> None:
    if not good:
      raise ConfigError(
        f"config.{path} is {get(config, path)!r}; it must be {allowed}."
      )

  for path, choices in _CHOICES.items():
    check(path, get(config, path) in choices, f"one of {', '.join(choices)}")
  for path, least in _AT_LEAST.items():
    good = math.isfinite(get(config, path)) and get(config, path) >= least
    check(path, good, f"a finite number, at least {least}")
  for path, least in _ABOVE.items():
    good = math.isfinite(get(config, path)) and get(config, path) > least
    check(path, good, f"a finite number above {least}")
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
