"""Settings of the command line that a run's own config gives types."""

import pytest

from vae_jax.config import ConfigError, default, flags, run_settings

WORDS = [
  *("main", "--mode=evaluate", "--config.eval.split=train", "--workdir=x"),
  *("--config.eval.batch_size", "8", "--noconfig.eval.latents"),
  *("--config.objective.args.beta=2", "--config.eval.fidelity", "--seed=1"),
]


def test_settings_are_split_from_flags_and_get_the_types_of_the_run():
  rest, settings = run_settings.split(WORDS)
  assert rest == ["main", "--mode=evaluate", "--workdir=x", "--seed=1"]
  config = default()
  config.objective.args.beta = 4.0
  assert run_settings.parse(settings, config) == {
    "eval.split": "train",
    "eval.batch_size": 8,
    "eval.latents": False,
    "objective.args.beta": 2.0,
    "eval.fidelity": True,
  }
  assert config.eval.batch_size == 512
  with pytest.raises(ConfigError, match="--config.eval.batch_size=many"):
    run_settings.parse(["--config.eval.batch_size=many"], config)


def test_they_need_a_config_or_a_run(capsys):
  with pytest.raises(SystemExit) as ended:
    flags.parse(["main", "--config.seed=1"], lambda: "")
  text = capsys.readouterr().err
  assert ended.value.code == 2 and "or --workdir of a trained run" in text
  assert "--config.seed=1 needs --config=FILE" in text
