"""Held-out bounds: each example once, on any devices, in any batches."""

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
from vae_jax import objectives
from vae_jax.data import binarize, datasets
from vae_jax.data.batch import Batch, Stream
from vae_jax.evaluate import bound
from vae_jax.modes import evaluate, evaluate_table
from vae_jax.runtime import devices
from vae_jax.train import train
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
  train(c, folder)
  return folder


@pytest.fixture(scope="module")
def whole(run):
  return _evaluate(run)


def _evaluate(folder, **overrides):
  """Evaluates a run, by default without diagnostics of the latents."""
  overrides = {"eval__latents": False} | overrides
  c = restore.load_config(folder)
  config_lib.override_for_use(
    c, {k.replace("__", "."): v for k, v in overrides.items()}
  )
  return evaluate.evaluate(c, folder)


@pytest.mark.parametrize("batch_size", [5, 24, 64])
def test_batch_size_changes_nothing(run, whole, batch_size):
  other = _evaluate(run, eval__batch_size=batch_size)
  assert other["num_examples"] == whole["num_examples"] == 32
  for name in ("neg_elbo", "distortion", "rate"):
    assert other[name] == pytest.approx(whole[name], rel=1e-6)


def test_number_of_devices_changes_nothing(run, whole, monkeypatch):
  chosen = jax.devices()[:2]
  monkeypatch.setattr(devices, "devices", lambda: chosen)
  other = _evaluate(run)
  for name in ("neg_elbo", "distortion", "rate"):
    assert other[name] == pytest.approx(whole[name], rel=1e-6)


def test_evaluation_is_a_function_of_the_seed(run):
  first = _evaluate(run, eval__latents=True)
  assert _evaluate(run, eval__latents=True) == first
  other = _evaluate(run, eval__seed=1)
  assert other["neg_elbo"] != first["neg_elbo"]
  assert other["rate"] == pytest.approx(first["rate"], rel=0.2)


def test_result_file_holds_the_context(run):
  result = _evaluate(run, eval__split="validation", eval__latents=True)
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


def test_mean_terms_is_the_mean_over_single_examples(run, whole):
  """Against a plain loop over examples, without padding or devices."""
  c = restore.load_config(run)
  state = restore.load_state(run)
  source = datasets.open_splits(c.data).test
  vae = build.model(c, tuple(c.data.image_shape), train=False)
  variables = state_lib.eval_variables(c, state)
  objective = objectives.from_config(c)

  @jax.jit
  def loss(image, index, key):
    batch = Batch(image, index, jnp.ones((1,), bool), key)
    return nn.apply(lambda vae: objective(vae, batch).loss[0], vae)(variables)

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
    total.append(float(loss(image, jnp.asarray(index), key)))
  assert whole["loss"] == pytest.approx(np.mean(total), rel=1e-5)


@pytest.mark.parametrize(
  "likelihood, args, data, extra, words",
  [
    ("bernoulli", {}, {"binarization": "static"}, 0, "probability"),
    ("bernoulli", {}, {}, 0, "cross-entropy of gray pixels, no likelihood"),
    ("laplace", {}, {}, math.log(255), "density per gray level"),
    (
      "laplace",
      {},
      {"dequantization": "uniform"},
      math.log(256),
      "bound on the probability of gray levels, uniform dequantization",
    ),
    ("categorical256", {}, {}, 0, "probability of 8-bit gray levels"),
    (
      "discretized_logistic_mixture",
      {"bits": 5},
      {},
      0,
      "probability of 5-bit gray levels",
    ),
  ],
)
def test_bits_have_a_meaning_in_words(likelihood, args, data, extra, words):
  c = tiny_config("/nowhere", model__likelihood__name=likelihood)
  c.model.likelihood.args.update(args)
  c.data.update(data)
  run = tiny_experiment(c, (4, 5, 3))
  bits = bound.bits(run, {"neg_elbo": 30.0})
  assert bits["bits_of"] == words
  assert bits["bits_per_dim"] == pytest.approx((0.5 + extra) / math.log(2))
  assert bound.bits(run, {"loss": 1.0})["bits_per_dim"] is None


def test_autoencoder_has_no_bound(tmp_path, faces_dir):
  c = tiny_config(
    faces_dir,
    objective__name="autoencoder",
    model__posterior__name="deterministic",
    model__likelihood__name="gaussian",
  )
  train(c, str(tmp_path))
  result = _evaluate(str(tmp_path))
  assert result["bits_per_dim"] is None
  assert "rate" not in result and "neg_elbo" not in result
  assert result["squared_error"] == pytest.approx(
    result["distortion"] - 128 * math.log(math.pi), rel=1e-4
  )


def test_missing_run_is_refused(tmp_path):
  with pytest.raises(config_lib.ConfigError, match="no run in"):
    restore.load_config(tmp_path)
