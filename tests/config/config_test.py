"""What is wrong in a config is said in one sentence."""

import pytest

from vae_jax import config as config_lib
from vae_jax.config import check


def _valid():
  c = config_lib.default()
  c.train.num_epochs = 1.0
  return c


def test_every_leaf_of_the_default_is_commented():
  import inspect

  source = inspect.getsource(config_lib.default)
  settings = [
    line
    for line in source.splitlines()
    if line.strip().startswith("c.") and "= ConfigDict()" not in line
    if " = " in line
  ]
  assert len(settings) > 40
  assert not [line for line in settings if "  # " not in line]


def test_round_trip_through_json():
  c = _valid()
  c.model.encoder.args.hidden = (3, 4)
  c.objective.args.beta = 2.0
  again = config_lib.from_json(config_lib.to_json(c))
  assert config_lib.flatten(again) == config_lib.flatten(c)
  assert config_lib.differences(c, again) == []


def test_differences_name_field_and_both_values():
  ours, theirs = _valid(), _valid()
  ours.optim.learning_rate = 0.5
  theirs.objective.args.beta = 2.0
  ours.data.dir = "/elsewhere"
  said = "\n".join(config_lib.differences(ours, theirs))
  assert "config.optim.learning_rate: 0.5 here, 0.001 there" in said
  assert "config.objective.args.beta: not set here, 2.0 there" in said
  assert "elsewhere" not in said


@pytest.mark.parametrize(
  "path, value, said",
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
  ],
)
def test_impossible_values(path, value, said):
  c = _valid()
  check.validate(c)
  config_lib.update(c, path, value)
  with pytest.raises(config_lib.ConfigError, match=said) as error:
    check.validate(c)
  assert f"config.{path}" in str(error.value)


def test_misspelt_and_mistyped_settings_stop():
  c = _valid()
  with pytest.raises((KeyError, AttributeError), match="lr"):
    c.optim.lr = 1.0
  with pytest.raises(TypeError):
    c.seed = "one"
  with pytest.raises(config_lib.ConfigError, match="learning_rate"):
    config_lib.check_path("optim.learning_rat")
  config_lib.check_path("optim.learning_rate")
  config_lib.check_path("objective.args.anything")


def test_only_evaluation_may_differ_from_the_trained_model():
  c = _valid()
  config_lib.override_for_use(c, {"eval.split": "train", "data.dir": "/x"})
  assert (c.eval.split, c.data.dir) == ("train", "/x")
  with pytest.raises(config_lib.ConfigError, match="trained with 32"):
    config_lib.override_for_use(c, {"model.latent_dim": 5})
