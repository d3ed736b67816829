"""The config.json of a run of another release, or damaged."""

import json

import pytest

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.config import ConfigError
from vae_jax.training import saved_config

RECORD = [{"code": {"version": "0.1.0", "commit": "04bd97bae1b8bc"}}]


@pytest.fixture
def run(tmp_path):
  """Returns the folder of a run, and a function that changes its settings."""
  (tmp_path / "record.json").write_text(json.dumps(RECORD))
  path = tmp_path / "config.json"
  path.write_text(config_lib.to_json(tiny_config("")))

  def change(function):
    tree = json.loads(path.read_text())
    function(tree)
    path.write_text(json.dumps(tree))

  return tmp_path, change


WRITTEN = r"config.json \(written by vae_jax 0.1.0, commit 04bd97b\)"


@pytest.mark.parametrize(
  "change, sentence",
  [
    (
      lambda c: c["train"].update(momentum=1),
      "has the setting train.momentum, which this release does not know",
    ),
    (
      lambda c: c["train"].update(num_steps="many"),
      "sets train.num_steps to 'many', which it cannot be",
    ),
    (
      lambda c: c["model"].update(encoder=3),
      "sets model.encoder to 3, which it cannot be",
    ),
    (lambda c: c.update(optim=None), "sets optim to None"),
    (
      lambda c: c["data"].update(resize="small"),
      "is not the config of a run: config.data.resize is 'small'; it must be",
    ),
    (
      lambda c: c.clear(),
      "is not the config of a run: config.train.num_steps is 0 and",
    ),
  ],
)
def test_settings_of_other_releases_are_named(change, sentence, run):
  folder, apply = run
  apply(change)
  with pytest.raises(ConfigError, match=f"{WRITTEN} {sentence}"):
    saved_config.read(folder)


@pytest.mark.parametrize("content", [b"", b'{"seed": 1', b"\xff\xfe"])
def test_damaged_files_are_named(content, run):
  folder, _ = run
  (folder / "config.json").write_bytes(content)
  with pytest.raises(ConfigError, match=f"{WRITTEN} is cut short or damaged"):
    saved_config.read(folder)
  (folder / "record.json").unlink()
  with pytest.raises(ConfigError, match="of an unknown release"):
    saved_config.read(folder)


def test_missing_settings_have_their_defaults_and_are_named(run, caplog):
  caplog.set_level("INFO", "absl")
  folder, apply = run
  saved_config.read(folder)
  assert not caplog.text
  apply(lambda c: (c["train"].pop("patience"), c.pop("init_from")))
  config = saved_config.read(folder)
  assert config == tiny_config("")
  assert "init_from = '', train.patience = 0" in caplog.text
  assert saved_config.read(folder / "nowhere") is None
