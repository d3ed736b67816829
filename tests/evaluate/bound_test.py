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
from vae_jax.latents import given, per_example
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
  changes = {k.replace("__", "."): v for k, v in overrides.items()}
  config_lib.override_for_use(c, changes)
  return evaluate.evaluate(c, folder)


@pytest.mark.parametrize("n, batch_size", [(8, 5), (8, 24), (8, 64), (2, 16)])
def test_devices_and_batch_size_change_nothing(
  run, whole, n, batch_size, monkeypatch
):
  chosen = jax.devices()[:n]
  monkeypatch.setattr(devices, "devices", lambda: chosen)
  other = _evaluate(run, eval__batch_size=batch_size)
  assert other["num_examples"] == whole["num_examples"] == 32
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
  written = (pathlib.Path(run) / "eval" / "validation.json").read_text()
  assert json.loads(written) == json.loads(json.dumps(result))
  total = result["distortion"] + result["rate"]
  assert result["neg_elbo"] == pytest.approx(total, rel=1e-6)
  extra = 0 if result["likelihood"] == "bernoulli" else math.log(255)
  bits = (result["neg_elbo"] / 256 + extra) / math.log(2)
  assert result["bits_per_dim"] == pytest.approx(bits, rel=1e-6)
  for name in ("seed", "objective", "binarization", "data_split", "step"):
    assert name in result
  lines = evaluate_table.table(result | {"active_units": 1}).splitlines()
  assert len(lines) == len(result)
  words = evaluate_table.table(result | {"active_units": 0})
  assert "No latent is active" in words and "args.beta" in words
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
    key = jax.random.key(c.eval.seed)
    for number in (Stream.EVALUATE, 0, i):
      key = jax.random.fold_in(key, number)
    image = jnp.asarray(source.fetch(np.array([i]))["image"])
    index = jnp.array([i], jnp.int32)
    image = binarize.binarize(image, index, key[None], mode=c.data.binarization)
    total.append(float(loss(image, index, key[None])))
  assert whole["loss"] == pytest.approx(np.mean(total), rel=1e-5)


def _full_above(images):
  """Returns a step for devices whose memory takes so many images, and the sizes
  that it was asked for."""
  asked = []

  def step(variables, data, number, seed):
    asked.append(data["index"].shape[1] * devices.device_count())
    if asked[-1] > images:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GiB.")
    sums = {"loss": (data["index"] * data["mask"]).sum(), "count": 0}
    sums["count"] = data["mask"].sum()
    return devices.replicate(jax.tree.map(np.float32, jax.device_get(sums)))

  return step, asked


def test_batch_is_halved_while_memory_is_too_small(caplog):
  source = given.InMemory(np.zeros((50, 2, 2, 1), np.uint8), None)
  options = {"batch_size": 64, "step": 0, "seed": 0}
  step, asked = _full_above(16)
  means = bound.mean_terms(
    step, {}, source, independent=lambda: True, **options
  )
  assert asked == [64, 32, 16, 16, 16, 16]
  assert means == {"loss": 24.5, "num_examples": 50}
  assert "64 images at a time (config.eval.batch_size): going on with 32" in (
    caplog.text
  )
  # Where numbers depend on the batch, and where it cannot get smaller.
  for images, independent in ((16, False), (4, True)):
    step, _ = _full_above(images)
    with pytest.raises(jax.errors.JaxRuntimeError):
      bound.mean_terms(
        step, {}, source, independent=lambda i=independent: i, **options
      )


def _nothing(vae, batch):
  """Takes the place of a function that is not called."""


def test_rows_go_on_with_half_a_batch(monkeypatch):
  run = tiny_experiment(tiny_config("", eval__batch_size=64), (2, 2, 1))
  source = given.InMemory(np.zeros((50, 2, 2, 1), np.uint8), None)
  step, asked = _full_above(24)
  mapped = lambda *args: step(*args) and args[1]["index"].reshape(1, -1)  # noqa: E731
  monkeypatch.setattr(per_example, "_mapped", lambda *_: mapped)
  monkeypatch.setattr(devices, "read_one", lambda v: np.asarray(v)[0])
  rows = list(per_example.rows(run, _nothing, {}, source))
  np.testing.assert_array_equal(np.concatenate(rows), np.arange(50))
  assert asked == [64, 32, 16, 16, 16, 16]
  step, _ = _full_above(4)
  with pytest.raises(config_lib.ConfigError, match="eval.batch_size below 64"):
    list(per_example.rows(run, _nothing, {}, source))


@pytest.mark.parametrize(
  "likelihood, settings, extra, words",
  [
    ("bernoulli", {"data__binarization": "static"}, 0, "probability"),
    ("bernoulli", {}, 0, "cross-entropy of gray pixels, no likelihood"),
    ("laplace", {}, math.log(255), "density per gray level"),
    (
      "laplace",
      {"data__dequantization": "uniform"},
      math.log(256),
      "bound on the probability of gray levels, uniform dequantization",
    ),
    ("categorical256", {}, 0, "probability of 8-bit gray levels"),
    (
      "discretized_logistic_mixture",
      {"model__likelihood__args__bits": 5},
      0,
      "probability of 5-bit gray levels",
    ),
  ],
)
def test_bits_have_a_meaning_in_words(likelihood, settings, extra, words):
  settings = {"model__likelihood__name": likelihood, **settings}
  run = tiny_experiment(tiny_config("/nowhere", **settings), (4, 5, 3))
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
  assert "bits" not in evaluate_table.table(result)
  error = result["distortion"] - 128 * math.log(math.pi)
  assert result["squared_error"] == pytest.approx(error, rel=1e-4)
