"""Invariance of a run to devices, dispatches and checkpoints."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.tiny import assert_trees_equal, curve, tiny_config
from vae_jax import config as config_lib
from vae_jax.objectives import elbo
from vae_jax.runtime import devices as parallel
from vae_jax.train import train
from vae_jax.training import build, progress, restore
from vae_jax.training import writer as writer_lib


def assert_same_curves(ours, theirs):
  """Checks that two runs have the same losses up to rounding."""
  for split in ("train", "validation"):
    expected = curve(theirs, split)
    np.testing.assert_allclose(curve(ours, split), expected, rtol=1e-5)


@pytest.fixture
def on_8_and_1(faces_dir, tmp_path, use_devices):
  """Trains on 8 devices and on 1, with the same curve; returns both states."""

  def run(**settings):
    states = []
    for count in (8, 1):
      use_devices(count)
      c = tiny_config(faces_dir, **settings)
      states.append(train(c, str(tmp_path / str(count))))
    assert_same_curves(tmp_path / "8", tmp_path / "1")
    return states

  return run


def test_batch_statistics_are_global(on_8_and_1):
  conv = {"name": "conv", "args": {"channels": (4, 8)}}
  eight, one = on_8_and_1(
    train__num_steps=4,
    model__encoder=conv,
    model__decoder=conv,
    model__likelihood__name="gaussian_optimal",
    data__binarization="dynamic",
    optim__ema_decay=0.9,
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
  jax.tree.map(close, one.model_state, eight.model_state)
  # Debiased, after 4 steps: 1 - 0.99^4.
  weight = one.model_state["batch_stats"]["likelihood"]["weight"]
  np.testing.assert_allclose(weight, 1 - 0.99**4, rtol=1e-5)


@pytest.mark.parametrize(
  "devices, settings",
  [
    *((1, {}), (2, {}), (4, {})),
    (8, {"train__steps_per_call": 1}),
    (8, {"train__steps_per_call": 50}),
    (8, {"train__accumulate": 2}),
    (8, {"data__cache": "host", "eval__batch_size": 24}),
  ],
)
def test_curve_does_not_depend_on_devices_dispatches_or_micro_batches(
  devices, settings, reference, faces_dir, tmp_path, use_devices
):
  use_devices(devices)
  train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert len(curve(tmp_path)) == 20
  assert_same_curves(tmp_path, reference[0])


def test_checkpoints_do_not_change_a_bit(reference, faces_dir, tmp_path):
  c = tiny_config(faces_dir, checkpoint__every_steps=3)
  assert_trees_equal(train(c, str(tmp_path)), reference[1])


def test_another_seed_gives_another_curve(reference, faces_dir, tmp_path):
  folder, _ = reference
  train(tiny_config(faces_dir, seed=1), str(tmp_path))
  assert np.abs(curve(tmp_path) / curve(folder) - 1).min() > 1e-4


def spread(vae, batch):
  terms = elbo.elbo(vae, batch)
  (mean,) = vae.encode(batch.image).mean
  penalty = jnp.var(parallel.all_gather(mean)) + 0.1 * batch.label[:, 0]
  return terms.replace(loss=terms.loss + penalty)


def test_loss_may_use_the_global_batch_and_labels(on_8_and_1):
  on_8_and_1(objective__name=f"{__name__}.spread", train__num_steps=4)


def _changes(before, after):
  """Returns the largest change of each array."""
  change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
  return jax.tree.leaves(change)


@pytest.mark.parametrize(
  "settings, words",
  [
    ({"optim__skip_norm": 1e-3}, "^7 steps in a row .*step 7 .gradient norm"),
    ({"optim__learning_rate": 1e30}, "not finite: .*loss"),
  ],
)
def test_bad_steps_are_skipped_counted_and_end_the_run(
  settings, words, faces_dir, tmp_path
):
  c = tiny_config(faces_dir, train__max_skips_in_row=7, **settings)
  with pytest.raises(progress.Diverged, match=words):
    train(c, str(tmp_path))
  rows = writer_lib.read_rows(tmp_path)
  assert sum(r["skipped"] for r in rows) > 0
  assert json.dumps(rows, allow_nan=False)


def bad_at_3(vae, batch):
  terms = elbo.elbo(vae, batch)
  bad = jnp.where(batch.step == 3, jnp.nan, 1.0)
  return terms.replace(loss=bad * terms.loss)


def test_bad_step_leaves_the_state_unchanged(faces_dir, tmp_path):
  states = []
  for steps in (3, 4, 6):
    c = tiny_config(
      faces_dir,
      objective__name=f"{__name__}.bad_at_3",
      optim__ema_decay=0.9,
      train__num_steps=steps,
    )
    states.append(train(c, str(tmp_path / str(steps))))
  before, after, later = states
  assert (int(after.step), int(after.skipped)) == (4, 1)
  assert int(after.skipped_in_row) == 1 and int(later.skipped_in_row) == 0
  for name in ("params", "model_state", "opt_state", "ema_params"):
    assert_trees_equal(getattr(after, name), getattr(before, name))
  assert min(_changes(later.params, after.params)) > 0
  rows = writer_lib.read_rows(tmp_path / "6")
  rows = [r for r in rows if r["split"] == "train"]
  assert [r["skipped"] for r in rows] == [0, 0, 0, 1, 0, 0]
  assert [r["loss"] is None for r in rows] == [False] * 3 + [True] + [False] * 2
  # Adam has taken 3 and 5 steps, and so has the average, which is loaded.
  for name, state, count in (("3", before, 3), ("6", later, 5)):
    loaded = restore.load_params(str(tmp_path / name))
    mean = jax.tree.map(lambda a, n=count: a / (1 - 0.9**n), state.ema_params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, loaded, mean)
    assert max(_changes(loaded, state.params)) > 1e-4


def test_impossible_settings_stop_before_anything_is_written(
  faces_dir, tmp_path
):
  for settings, message in (
    ({"train__batch_size": 12}, "multiple of 8"),
    ({"objective__name": "elbow"}, "Did you mean elbo"),
    ({"objective__args": {"beta": 1.0}}, "unknown to elbo"),
    ({"model__encoder": {"name": "lecture_mnist", "args": {}}}, "28"),
    ({"model__posterior__name": "deterministic"}, "KL divergence"),
    ({"data__image_shape": (8, 8, 1)}, "has images of"),
    ({"data__label": "attributes/Smilin"}, "Smiling"),
    ({"model__encoder__args": {"hiden": (3,)}}, "hiden is unknown"),
    ({"optim__optimizer__name": "adamm"}, "adamm"),
    ({"optim__schedule__name": "cosin"}, "cosine"),
    ({"seed": 2**32}, "below 2**32"),
  ):
    c = tiny_config(faces_dir, **settings)
    with pytest.raises(config_lib.ConfigError, match=re.escape(message)):
      train(c, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_critic_has_one_curve_and_two_optimizers(on_8_and_1):
  settings = {
    "train__num_steps": 5,
    "objective__name": "factor_vae",
    "objective__auxiliary__args": {"hidden": (8, 8)},
    "optim__auxiliary__learning_rate": 1e-2,
    "optim__learning_rate": 1e-5,
  }
  for state in on_8_and_1(**settings):
    c = tiny_config("", **settings)
    start = build.init_variables(c, (16, 16, 1))["params"]
    # A step of Adam moves no weight by much more than the learning rate.
    critic, old = state.params.pop("auxiliary"), start.pop("auxiliary")
    assert min(_changes(critic, old)) > 1e-2
    assert 1e-5 < max(_changes(state.params, start)) < 1e-4
