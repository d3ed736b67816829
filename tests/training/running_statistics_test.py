"""Running statistics of averaged weights."""

import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.data import pipeline
from vae_jax.evaluate import bound
from vae_jax.latents import trained_model
from vae_jax.modes import evaluate, export
from vae_jax.runtime import devices
from vae_jax.train import train
from vae_jax.training import batch as batch_lib
from vae_jax.training import (
  checkpoint,
  loop,
  restore,
  running_statistics,
  setup,
  step,
)
from vae_jax.training import state as state_lib
from vae_jax.training import writer as writer_lib


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
  """Returns the name of images that a small net learns well: planes."""
  z = np.random.default_rng(0).normal(size=(2, 400, 1, 1))
  x = np.linspace(-2, 2, 12)
  planes = 255 / (1 + np.exp(-(z[0] * x[:, None] + z[1] * x)))
  path = tmp_path_factory.mktemp("smooth") / "planes.npz"
  np.savez(path, image=planes.round().astype(np.uint8)[..., None])
  return f"arrays:{path}"


def _config(smooth, **settings):
  """Returns the config of a run whose weights move fast at first."""
  defaults = {
    "data__name": smooth,
    "data__grayscale": False,
    "data__resize": 0,
    "model__likelihood__name": "gaussian_optimal",
    "optim__ema_decay": 0.99,
    "optim__learning_rate": 0.01,
    "optim__schedule__name": "cosine",
    "train__num_steps": 200,
    "train__batch_size": 32,
    "train__steps_per_call": 20,
    "train__validate_every_steps": 100,
  }
  return tiny_config("", **defaults | settings)


def _estimator(run):
  return running_statistics.Estimator(run, loop.plan(run), run.source("train"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, smooth):
  """Returns the workdir, the experiment and the state of an averaged run."""
  folder, config = tmp_path_factory.mktemp("averaged"), _config(smooth)
  state = train(config, str(folder))
  return folder, setup.prepare(config), state


def test_variance_is_the_mean_squared_error_of_the_next_batches(trained):
  _, run, state = trained
  variables = state_lib.eval_variables(run.config, state)

  def errors(data, position, seed):
    data = jax.tree.map(lambda v: v[0, 0], data)
    batch, key = batch_lib.train_batch(
      run.config, data, jnp.int32(0), step=position, seed=seed
    )
    arguments = (run.objective, run.vae_train, variables, batch)
    terms, _ = step.forward(*arguments, dropout_key=key)
    return terms["squared_error"]

  mapped, seed = devices.pmap(errors), devices.replicate(np.uint32(0))
  found = []
  for first in range(200, 200 + running_statistics.STEPS):
    data = pipeline.train_data(
      run.source("train"),
      first,
      1,
      seed=0,
      batch_size=32,
      micro_batches=1,
      steps_per_call=1,
    )
    position = devices.replicate(np.int32(first))
    found.append(np.asarray(mapped(devices.shard(data), position, seed)))
  own = state.ema_model_state["batch_stats"]["likelihood"]
  assert own["weight"] == pytest.approx(1, rel=1e-5)
  assert own["variance"] == pytest.approx(np.mean(found) / 144, rel=1e-5)
  raw = state.model_state["batch_stats"]["likelihood"]
  assert raw["weight"] == pytest.approx(1 - 0.99**200, rel=1e-5)


def test_estimate_is_the_same_on_any_devices_and_in_any_dispatches(
  trained, smooth, use_devices
):
  _, run, state = trained
  assert_trees_equal(_estimator(run).update(state), state)
  use_devices(2)
  other = setup.prepare(_config(smooth, train__steps_per_call=7))
  again = _estimator(other).update(state)
  for a, b in zip(*map(jax.tree.leaves, (again, state)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def _bounds(run, state, *others):
  """Returns neg_elbo of averaged weights with each state's own statistics."""
  eval_step, held_out = step.make_eval_step(run), run.source("validation")
  return [
    bound.mean_terms(
      eval_step,
      devices.replicate(state_lib.eval_variables(run.config, s)),
      held_out,
      batch_size=16,
      step=int(s.step),
      seed=0,
    )["neg_elbo"]
    for s in (state, *others)
  ]


class NormEncoder(nn.Module):
  """A layer with batch norm."""

  train: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, image):
    x = nn.Dense(8)(image.reshape(image.shape[0], -1))
    norm = nn.BatchNorm(not self.train, axis_name=self.axis_name, momentum=0.99)
    return nn.tanh(norm(x))


@pytest.fixture(scope="module")
def normed(tmp_path_factory, smooth):
  """Returns what `trained` does, of a run with batch norm."""
  folder = tmp_path_factory.mktemp("normed")
  config = _config(
    smooth,
    model__likelihood__name="gaussian",
    model__encoder__name=f"{__name__}.NormEncoder",
    optim__ema_decay=0.95,
    optim__learning_rate=0.1,
    optim__schedule__name="constant",
    train__num_steps=50,
  )
  del config.model.encoder.args.hidden
  config.model.likelihood.args.sigma = 0.1
  state = train(config, str(folder))
  return folder, setup.prepare(config), state


@pytest.mark.parametrize("name", ["trained", "normed"])
def test_averaged_weights_have_the_bound_of_their_own_statistics(
  name, request, monkeypatch
):
  _, run, state = request.getfixturevalue(name)
  monkeypatch.setattr(running_statistics, "STEPS", 200)
  best = _estimator(run).update(state)
  raw = state.replace(ema_model_state=state.model_state)
  ours, own, before = _bounds(run, state, best, raw)
  assert abs(ours - own) < 0.01 * abs(own)
  # Those of the raw weights are another matter.
  assert before - own > 0.1 * abs(own)


def test_checkpoints_are_ranked_by_that_bound(trained):
  folder, run, state = trained
  rows = writer_lib.read_rows(folder)
  rows = {r["step"]: r for r in rows if r["split"] == "validation"}
  assert list(rows) == [100, 200]
  (ours,) = _bounds(run, state)
  assert rows[200]["neg_elbo"] == pytest.approx(ours, rel=1e-6)
  path = folder / "checkpoints/200/metrics/metrics"
  assert json.loads(path.read_text()) == {"score": rows[200]["neg_elbo"]}


def test_evaluation_is_that_of_the_last_validation(trained):
  folder, _, _ = trained
  config = restore.load_config(folder)
  config.eval.split, config.eval.latents = "validation", False
  result = evaluate.evaluate(config, str(folder))
  row = writer_lib.read_rows(folder)[-1]
  assert row["split"] == "validation"
  assert result["neg_elbo"] == pytest.approx(row["neg_elbo"], rel=1e-6)


def test_exported_programs_have_them(normed):
  pytest.importorskip("flatbuffers")
  folder, run, state = normed
  opened = trained_model.open_run(run.config, folder, chunk=2)
  raw = trained_model.of_state(
    run, folder, state.replace(ema_model_state=state.model_state), chunk=2
  )
  image = run.source("validation").fetch(np.arange(2))["image"]
  program = jax.export.deserialize(
    bytearray(export.programs(opened)["encoder.bin"])
  )
  code = jax.jit(program.call)(image)
  np.testing.assert_array_equal(code, opened.encode(image))
  assert np.abs(code - raw.encode(image)).max() > 0.1


def test_statistics_are_kept_in_the_checkpoint(trained):
  folder, run, state = trained
  assert_trees_equal(restore.load_state(folder), state)
  variables = trained_model.open_run(run.config, folder).variables
  own = state.ema_model_state["batch_stats"]
  assert_trees_equal(variables["batch_stats"], own)


def test_statistics_that_an_earlier_release_did_not_keep_are_estimated(
  trained, tmp_path, caplog
):
  _, run, state = trained
  store = checkpoint.Checkpoints(tmp_path)
  store.save(state.replace(ema_model_state=None), run.config)
  store.close()
  opened = trained_model.open_run(run.config, tmp_path, splits=run.splits)
  assert_trees_equal(
    opened.variables["batch_stats"], state.ema_model_state["batch_stats"]
  )
  run.config.train.batch_size = 12
  opened = trained_model.open_run(run.config, tmp_path, splits=run.splits)
  run.config.train.batch_size = 32
  raw = state.model_state["batch_stats"]
  assert_trees_equal(opened.variables["batch_stats"], raw)
  assert "config.train.batch_size is 12" in caplog.text


def test_other_checkpoints_keep_their_structure(reference):
  folder, state = reference
  assert state.ema_model_state is None
  path = folder / "checkpoints/20/state/_METADATA"
  tree = json.loads(path.read_text())["tree_metadata"]
  assert {name.split("'")[1] for name in tree} == {
    *("step", "params", "model_state", "opt_state", "ema_params"),
    *("skipped", "skipped_in_row"),
  }


def test_before_the_first_good_step_nothing_is_averaged(trained):
  _, run, _ = trained
  state = jax.tree.map(np.asarray, state_lib.init_state(run))
  state = state.replace(step=np.int32(3), skipped=np.int32(3))
  after = _estimator(run).update(state)
  assert_trees_equal(after.ema_model_state, state.model_state)


def test_what_is_no_average_keeps_its_value():
  raw = {
    "count": np.int32(7),
    "mean": np.float32([2.0, 3.0]),
    "constant": np.float32(5),
  }
  means = {
    k: running_statistics._average(np.asarray(v), np.float32(0.5), m)
    for (k, v), m in zip(
      raw.items(), np.float32([[0.9], [0.9], [1.0]]), strict=True
    )
  }
  assert means["count"] == 7 and means["constant"] == 5
  np.testing.assert_allclose(means["mean"], 5, rtol=1e-5)
