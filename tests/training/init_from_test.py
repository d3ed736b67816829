"""First weights from another run."""

import re
import shutil

import jax
import numpy as np
import pytest

from tests.support.tiny import assert_trees_equal, needy_loss, tiny_config
from vae_jax.config import ConfigError
from vae_jax.train import train
from vae_jax.training import init_from, provenance, restore, setup
from vae_jax.training import state as state_lib

NEEDY = f"{needy_loss.__module__}.{needy_loss.__name__}"


def _first(config, folder):
  run = setup.prepare(config)
  restore.check_origin(run, folder)
  return restore.restore_or_init(run, str(folder), run.source("train"))


def test_weights_are_copied_and_all_else_is_new(reference, faces_dir, tmp_path):
  folder, state = reference
  settings = {"seed": 1, "optim__clip_norm": 1.0, "objective__name": NEEDY}
  config = tiny_config(faces_dir, init_from=str(folder), **settings)
  begun = _first(config, tmp_path)
  assert not begun.resumed and int(begun.state.step) == 0
  weights = dict(begun.state.params)
  own = weights.pop("auxiliary")
  assert own and weights.keys() == state.params.keys()
  assert_trees_equal(weights, state.params)
  expected = setup.prepare(config).optimizer.init(begun.state.params)
  assert_trees_equal(begun.state.opt_state, jax.tree.map(np.asarray, expected))
  origin = {"workdir": str(folder), "step": 20, "parts": "all"}
  assert begun.origin == {"init_from": origin | {"averaged": False}}


def test_record_says_where_weights_came_from(
  reference, faces_dir, tmp_path, monkeypatch
):
  folder, state = reference
  config = tiny_config(
    faces_dir,
    train__num_steps=1,
    init_from=str(folder),
    init_from_parts="encoder, decoder",
    optim__learning_rate=1e-12,
  )
  after = train(config, str(tmp_path))
  for name in ("encoder", "decoder"):
    for a, b in zip(
      *(jax.tree.leaves(s.params[name]) for s in (after, state)), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-9)
  new, old = (
    s.params["posterior"]["Dense_0"]["kernel"] for s in (after, state)
  )
  assert np.abs(new - old).max() > 1e-3
  (entry,) = provenance.read(str(tmp_path))
  assert entry["init_from"]["parts"] == ["encoder", "decoder"]
  assert entry["init_from"]["workdir"] == str(folder)
  # A run that resumes has no use for them, wherever they are now.
  monkeypatch.setattr(restore, "_origin", None)
  begun = _first(config, tmp_path)
  assert begun.resumed and not begun.origin
  assert_trees_equal(begun.state, after)


def test_averaged_weights_are_taken_with_their_statistics():
  config = tiny_config("", optim__ema_decay=0.5, init_from="there")
  state = state_lib.TrainState(
    step=np.int32(1),
    params={"encoder": {"w": np.float32(2)}},
    model_state={"batch_stats": {"encoder": {"m": np.float32(3)}}},
    opt_state=None,
    ema_params={"encoder": {"w": np.float32(5)}},
    skipped=np.int32(0),
    skipped_in_row=np.int32(0),
    ema_model_state={"batch_stats": {"encoder": {"m": np.float32(7)}}},
  )
  ours = {"params": state.params, **state.model_state}
  theirs = state_lib.eval_variables(config, state)
  merged = init_from.merge(config, ours, theirs)
  assert merged["params"]["encoder"]["w"] == 10
  assert merged["batch_stats"]["encoder"]["m"] == 7


@pytest.mark.parametrize(
  "settings, sentence",
  [
    (
      {"model__latent_dim": 5},
      r"params/decoder/Dense_0/kernel is \(5, 16\) here and \(3, 16\) there",
    ),
    (
      {"model__encoder__args": {"hidden": (16, 8)}},
      r"params/encoder/Dense_1/bias is \(8,\) here and missing there",
    ),
    ({"init_from_parts": "prior"}, "the prior has no weights"),
    ({"init_from_parts": "encoder,head"}, "it must be names of encoder, poste"),
    ({"init_from": ""}, "config.init_from names no run"),
    (
      {"init_from": "/nowhere"},
      "^config.init_from is '/nowhere', which cannot be used: There is no run",
    ),
  ],
)
def test_what_does_not_fit_is_named(
  settings, sentence, reference, faces_dir, tmp_path, monkeypatch
):
  # Before images are decoded and weights are read.
  monkeypatch.setattr(restore, "restore_or_init", None)
  parts = "encoder" if "init_from" in settings else ""
  given = {"init_from": str(reference[0]), "init_from_parts": parts}
  with pytest.raises(ConfigError, match=sentence):
    _first(tiny_config(faces_dir, **given | settings), tmp_path)


@pytest.mark.parametrize(
  "damaged, sentence",
  [
    ("config.json", r"config.json \(written by vae_jax .*\) is cut short or d"),
    ("checkpoints/20/*/*", "None of the checkpoints in .* can be read"),
    ("checkpoints/20", "has no readable checkpoint yet; train with"),
  ],
)
def test_damaged_run_is_named(
  damaged, sentence, reference, faces_dir, tmp_path
):
  there = tmp_path / "there"
  shutil.copytree(reference[0], there)
  for path in there.glob(damaged):
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.write_bytes(path.read_bytes()[:10])
  config = tiny_config(faces_dir, init_from=str(there))
  with pytest.raises(ConfigError) as raised:
    _first(config, tmp_path / "here")
  used = f"config.init_from is '{there}', which cannot be used: .*"
  assert re.match(used + sentence, str(raised.value))
  assert "--config.init_from=" not in str(raised.value)
