"""Values that no run could use are refused, with the field and the limits."""

import pytest

from vae_jax import config as config_lib
from vae_jax.config import check


@pytest.mark.parametrize(
  "path, value, message",
  [
    ("data.cache", "ram", "none, host"),
    ("data.binarization", "dyn", "none, static, dynamic"),
    ("model.dtype", "float16", "float32, bfloat16"),
    ("model.init", "keras", "flax, glorot, torch"),
    ("model.output_bias", "mean", "init, data"),
    ("model.latent_dim", 0, "at least 1"),
    ("optim.learning_rate", 0.0, "above 0"),
    ("optim.learning_rate", float("nan"), "finite"),
    ("optim.clip_norm", -1.0, "at least 0"),
    ("optim.ema_decay", 1.0, "below 1"),
    ("train.accumulate", 3, "multiple of config.train.accumulate"),
    ("train.num_steps", 10, "exactly one"),
    ("train.num_epochs", 0.0, "exactly one"),
    ("checkpoint.every_steps", 0, "at least 1"),
    ("seed", 2**32, "below 2..32"),
    # In any setting, of arguments too.
    ("model.latent_dim", 10**20, r"below 2\*\*31"),
    ("train.log_every_steps", 2**31, r"below 2\*\*31"),
    ("model.encoder.args.hidden", (400, 2**31), r"below 2\*\*31"),
    ("objective.args.beta", float("nan"), "it must be finite"),
    ("optim.schedule.args.at", (0.5, float("inf")), "it must be finite"),
    ("data.image_shape", (8.0, float("nan"), 1), "it must be finite"),
  ],
)
def test_impossible_value_is_refused(path, value, message):
  c = config_lib.default()
  c.train.num_epochs = 1.0
  check.validate(c)
  config_lib.update(c, path, value)
  with pytest.raises(config_lib.ConfigError, match=message) as error:
    check.validate(c)
  assert f"config.{path}" in str(error.value)
