"""Settings are read, overridden and compared by their dotted paths."""

import contextlib

import pytest

from vae_jax import config as config_lib
from vae_jax.config import check


def _valid():
  c = config_lib.default()
  c.train.num_epochs = 1.0
  return c


def test_config_survives_json():
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
  lines = "\n".join(config_lib.differences(ours, theirs))
  assert "config.optim.learning_rate: 0.5 here, 0.001 there" in lines
  assert "config.objective.args.beta: not set here, 2.0 there" in lines
  assert "elsewhere" not in lines


def test_misspelt_and_mistyped_settings_are_refused():
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


@pytest.mark.parametrize(
  "overrides, steps, epochs",
  [
    ({"train.num_steps": 7}, 7, 0.0),
    ({"train.num_epochs": 2.5}, 0, 2.5),
    ({"train.num_steps": 0}, 0, 20.0),
    ({"seed": 3}, 0, 20.0),
    # Both are left to the check.
    ({"train.num_steps": 100, "train.num_epochs": 3.0}, 100, 3.0),
  ],
)
def test_run_length_on_command_line_replaces_that_of_the_file(
  overrides, steps, epochs
):
  c = config_lib.default()
  c.train.num_epochs = 20.0
  for path, value in overrides.items():
    config_lib.update(c, path, value)
  config_lib.override_length(c, overrides)
  assert (c.train.num_steps, c.train.num_epochs) == (steps, epochs)
  both = bool(steps and epochs)
  refused = pytest.raises(config_lib.ConfigError, match="exactly one")
  with refused if both else contextlib.nullcontext():
    check.validate(c)


def test_epochs_on_command_line_replace_steps_of_the_file():
  c = config_lib.default()
  c.train.num_steps, c.train.num_epochs = 100, 3.0
  config_lib.override_length(c, {"train.num_epochs": 3.0})
  assert c.train.num_steps == 0


def test_reason_is_the_message_on_one_line_or_the_type():
  assert config_lib.reason(ValueError("no\n  more.")) == "no more"
  assert config_lib.reason(KeyError()) == "KeyError"
  assert len(config_lib.reason(ValueError("x" * 500))) == 200


@pytest.mark.parametrize(
  "text, message",
  [
    ('{"seed": ', "x/config.json is cut short or damaged .Expecting value"),
    ("", "x/config.json is cut short or damaged"),
    (b"\x80\x81", "x/config.json is cut short or damaged"),
    ("[1]", "x/config.json holds .1., no settings"),
    ('{"modl": {}}', "has the setting modl, which this release does not know"),
    ('{"model": {"dim": 1}}', "has the setting model.dim, which this release"),
    ('{"seed": "one"}', "sets seed to 'one', which it cannot be"),
    ('{"seed": {"a": 1}}', "sets seed to {'a': 1}, which it cannot be"),
    ('{"model": 3}', "sets model to 3, which it cannot be"),
  ],
)
def test_a_damaged_config_is_named(text, message):
  with pytest.raises(config_lib.ConfigError, match=message):
    config_lib.from_json(text, "x/config.json")
