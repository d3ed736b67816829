"""Values that no run could use, refused before any work."""

import math

from ml_collections import ConfigDict

from vae_jax import config as config_lib

_CHOICES = {
  "data.cache": ("none", "host"),
  "data.binarization": ("none", "static", "dynamic"),
  "data.dequantization": ("none", "uniform"),
  "model.condition": ("none", "label", "attributes"),
  "model.dtype": ("float32", "bfloat16"),
  "model.init": ("flax", "glorot", "torch"),
  "model.output_bias": ("init", "data"),
  "eval.split": ("train", "validation", "test"),
  "eval.checkpoint": ("latest", "best"),
}
# Least allowed values; "above" is exclusive.
_AT_LEAST = {
  "seed": 0,
  "data.crop": 0,
  "data.resize": 0,
  "data.num_labels": 0,
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


def validate(config: ConfigDict) -> None:
  """Stops with one sentence at a value that no run could use.

  Raises:
    ConfigError: naming the field, its value and what is allowed.
  """
  for path, allowed in _CHOICES.items():
    if config_lib.get(config, path) not in allowed:
      raise config_lib.ConfigError(
        f"config.{path} is {config_lib.get(config, path)!r}; allowed are "
        f"{', '.join(allowed)}."
      )
  for bounds, word in ((_AT_LEAST, "at least"), (_ABOVE, "above")):
    for path, least in bounds.items():
      value = config_lib.get(config, path)
      good = value >= least if word == "at least" else value > least
      if not (good and math.isfinite(value)):
        raise config_lib.ConfigError(
          f"config.{path} is {value}; it must be a finite number {word} "
          f"{least}."
        )
  if (config.train.num_steps > 0) == (config.train.num_epochs > 0):
    raise config_lib.ConfigError(
      f"config.train.num_steps is {config.train.num_steps} and "
      f"config.train.num_epochs is {config.train.num_epochs}; exactly one of "
      "them must be above 0."
    )
  for path in ("seed", "eval.seed", "sample.seed"):
    if config_lib.get(config, path) >= 2**32:
      raise config_lib.ConfigError(
        f"config.{path} is {config_lib.get(config, path)}; it must be below 2**32."
      )
  if config.optim.ema_decay >= 1:
    raise config_lib.ConfigError(
      f"config.optim.ema_decay is {config.optim.ema_decay}; it must be below 1."
    )
  if config.train.batch_size % config.train.accumulate:
    raise config_lib.ConfigError(
      f"config.train.batch_size is {config.train.batch_size}; it must be a "
      f"multiple of config.train.accumulate, {config.train.accumulate}."
    )
