"""Held-out numbers: each example once, the same on any device and batch."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.tiny import tiny_config, tiny_experiment
from vae_jax import config as config_lib
from vae_jax import distributions, objectives, train
from vae_jax.data import binarize, datasets
from vae_jax.data.batch import Batch, Stream
from vae_jax.evaluate import bound
from vae_jax.latents import apply, quantiles
from vae_jax.modes import evaluate, evaluate_table, sample
from vae_jax.runtime import devices
from vae_jax.training import build, restore
from vae_jax.training import state as state_lib


@pytest.fixture(scope="module", params=["bernoulli", "gaussian_optimal"])
def run(request, tmp_path_factory, faces_dir):
  folder = str(tmp_path_factory.mktemp(request.param))
  c = tiny_config(
    faces_dir,
    model__likelihood__name=request.param,
    data__binarization="dynamic" if request.param == "bernoulli" else "none",
  )
  train.train(c, folder)
  return folder


def _evaluate(folder, **overrides):
  c = restore.load_config(folder)
  config_lib.override_for_use(
    c, {k.replace("__", "."): v for k, v in overrides.items()}
  )
  return evaluate.evaluate(c, folder)


@pytest.mark.parametrize("batch_size", [5, 24, 64])
def test_batch_size_changes_nothing(run, batch_size):
  whole = _evaluate(run, eval__batch_size=32)
  other = _evaluate(run, eval__batch_size=batch_size)
  assert other["num_examples"] == whole["num_examples"] == 32
  for name in ("neg_elbo", "distortion", "rate"):
    assert other[name] == pytest.approx(whole[name], rel=1e-6)


def test_number_of_devices_changes_nothing(run, monkeypatch):
  whole = _evaluate(run)
  chosen = jax.devices()[:2]
  monkeypatch.setattr(devices, "devices", lambda: chosen)
  other = _evaluate(run)
  for name in ("neg_elbo", "distortion", "rate"):
    assert other[name] == pytest.approx(whole[name], rel=1e-6)


def test_twice_is_the_same_and_another_seed_is_not(run):
  first = _evaluate(run)
  assert _evaluate(run) == first
  other = _evaluate(run, eval__seed=1)
  assert other["neg_elbo"] != first["neg_elbo"]
  assert other["rate"] == pytest.approx(first["rate"], rel=0.2)


def test_what_is_written(run):
  result = _evaluate(run, eval__split="validation")
  path = pathlib.Path(run) / "eval" / "validation.json"
  written = json.loads(path.read_text())
  assert written == json.loads(json.dumps(result))
  assert result["neg_elbo"] == pytest.approx(
    result["distortion"] + result["rate"], rel=1e-6
  )
  dims = 256
  extra = 0 if result["likelihood"] == "bernoulli" else math.log(255)
  assert result["bits_per_dim"] == pytest.approx(
    (result["neg_elbo"] / dims + extra) / math.log(2), rel=1e-6
  )
  for name in ("seed", "objective", "binarization", "data_split", "step"):
    assert name in result
  lines = evaluate_table.table(result).splitlines()
  assert len(lines) == len(result)
  assert any("neg_elbo" in x and "nats per image" in x for x in lines)


def test_mean_terms_is_the_mean_over_single_examples(run):
  """Against a plain loop over examples, without padding or devices."""
  c = restore.load_config(run)
  state = restore.load_state(run)
  source = datasets.open_splits(c.data).test
  vae = build.model(c, tuple(c.data.image_shape), train=False)
  variables = state_lib.eval_variables(c, state)
  total = []
  for i in range(len(source)):
    index = np.array([i], np.int32)
    root = jax.random.fold_in(jax.random.key(c.eval.seed), Stream.EVALUATE)
    key = jax.random.fold_in(jax.random.fold_in(root, 0), i)[None]
    image = binarize.binarize(
      jnp.asarray(source.fetch(index)["image"]),
      jnp.asarray(index),
      key,
      mode=c.data.binarization,
    )
    batch = Batch(image, jnp.asarray(index), jnp.ones((1,), bool), key)
    objective = objectives.from_config(c)

    def loss(vae, batch=batch, objective=objective):
      return objective(vae, batch).loss

    total.append(float(nn.apply(loss, vae)(variables)[0]))
  assert _evaluate(run)["loss"] == pytest.approx(np.mean(total), rel=1e-5)


@pytest.mark.parametrize(
  "likelihood, args, data, extra, words",
  [
    ("bernoulli", {}, {"binarization": "static"}, 0, "probability"),
    ("bernoulli", {}, {}, 0, "cross-entropy of grey pixels, no likelihood"),
    ("laplace", {}, {}, math.log(255), "density per grey level"),
    (
      "laplace",
      {},
      {"dequantization": "uniform"},
      math.log(256),
      "bound on the probability of grey levels, uniform dequantisation",
    ),
    ("categorical256", {}, {}, 0, "probability of 8-bit grey levels"),
    (
      "discretized_logistic_mixture",
      {"bits": 5},
      {},
      0,
      "probability of 5-bit grey levels",
    ),
  ],
)
def test_bits_say_what_they_are(likelihood, args, data, extra, words):
  c = tiny_config("/nowhere", model__likelihood__name=likelihood)
  c.model.likelihood.args.update(args)
  c.data.update(data)
  run = tiny_experiment(c, (4, 5, 3))
  bits = bound.bits(run, {"neg_elbo": 30.0})
  assert bits["bits_of"] == words
  assert bits["bits_per_dim"] == pytest.approx((0.5 + extra) / math.log(2))
  assert bound.bits(run, {"loss": 1.0})["bits_per_dim"] is None


def test_an_autoencoder_has_no_bound(tmp_path, faces_dir):
  c = tiny_config(
    faces_dir,
    objective__name="autoencoder",
    model__posterior__name="deterministic",
    model__likelihood__name="gaussian",
  )
  train.train(c, str(tmp_path))
  result = _evaluate(str(tmp_path))
  assert result["bits_per_dim"] is None
  assert "rate" not in result and "neg_elbo" not in result
  assert result["squared_error"] == pytest.approx(
    result["distortion"] - 128 * math.log(math.pi), rel=1e-4
  )


def test_no_run_is_said_in_a_sentence(tmp_path):
  with pytest.raises(config_lib.ConfigError, match="no run in"):
    restore.load_config(tmp_path)


def test_samples_and_reconstructions(run):
  c = restore.load_config(run)
  state = restore.load_state(run)
  path = sample.run(c, run)
  assert path.endswith("samples.png")
  images = np.load(path.replace(".png", ".npz"))["images"]
  assert images.shape == (100, 16, 16, 1) and images.dtype == np.uint8
  vae = build.model(c, tuple(c.data.image_shape), train=False)
  variables = state_lib.eval_variables(c, state)
  first = np.arange(10, dtype=np.int32)
  ten = np.asarray(apply.sample(vae, variables, first, 0, 1.0))
  np.testing.assert_allclose(ten, images[:10].astype(int), atol=1)
  other = np.asarray(apply.sample(vae, variables, first, 1, 1.0))
  assert not np.array_equal(ten, other)
  source = datasets.open_splits(c.data).test
  image = source.fetch(np.arange(4))["image"]
  codes = apply.encode(vae, variables, image)
  np.testing.assert_array_equal(
    apply.reconstruct(vae, variables, image),
    apply.decode(vae, variables, codes),
  )


def test_temperature_scales_the_codes():
  keys = jax.random.split(jax.random.key(0), 3)
  prior = distributions.StandardNormal(4)
  np.testing.assert_allclose(
    prior.sample(keys, 0.5), 0.5 * prior.sample(keys), rtol=1e-6
  )
  assert jnp.abs(prior.sample(keys, 0.0)).max() == 0


def test_prior_quantiles():
  ticks = quantiles.prior_quantiles(4)
  expected = [-1.15035, -0.31864, 0.31864, 1.15035]
  np.testing.assert_allclose(ticks, expected, atol=1e-4)
  grid = quantiles.grid(ticks, ticks)
  np.testing.assert_allclose(grid[0], [ticks[0], ticks[3]], atol=1e-6)
  np.testing.assert_allclose(grid[1], [ticks[1], ticks[3]], atol=1e-6)
  np.testing.assert_allclose(grid[-1], [ticks[3], ticks[0]], atol=1e-6)


def test_parameter_count_needs_no_data():
  c = config_lib.default()
  c.data.dir = "/nowhere"
  c.data.image_shape = (28, 28, 1)
  c.model.encoder.name = c.model.decoder.name = "mlp"
  c.model.latent_dim = 20
  assert build.parameter_count(c) == 652_824
