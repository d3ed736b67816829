"""The importance-sampled likelihood against exact ones and plain loops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose

from tests.support import tfds
from tests.support.importance_oracle import perturbed
from tests.support.linear_gaussian_vae import SHAPE, VAE, exact_model
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.data.batch import Stream
from vae_jax.evaluate import bound
from vae_jax.latents import likelihood
from vae_jax.objectives import iwae
from vae_jax.runtime import devices as parallel
from vae_jax.training import build, experiment, step

COUNT, SEED = 11, 3


def source(shape=SHAPE):
  """Returns random images with the labels 0, 1 and 2."""
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (COUNT, *shape)).astype(np.uint8)
  return tfds.ArraySource(images, np.arange(COUNT, dtype=np.int32) % 3)


def exact_experiment(batch_size=16):
  c = config_lib.default()
  c.eval.batch_size, c.eval.seed = batch_size, SEED
  c.data.image_shape, c.model.latent_dim = SHAPE, 2
  support = "tests.support.linear_gaussian_vae"
  c.model.encoder.name = f"{support}._Flatten"
  c.model.decoder.name = f"{support}._Linear"
  c.model.likelihood.name = f"{support}._LinearNormal"
  return experiment.build(c)


def estimates(params, num_samples, *, batch_size=16, max_rows=2048):
  run, variables = exact_experiment(batch_size), {"params": params}
  arguments = run, parallel.replicate(variables), source()
  return likelihood.nll_per_image(
    *arguments, num_samples=num_samples, max_rows=max_rows
  )


@functools.cache
def one_by_one():
  """log w of draws 0 to 12 of each image: one image and one draw at a time."""
  params, _ = perturbed()

  @jax.jit
  def log_w(image, key, draw):
    def run(vae):
      draw_key = iwae.draw_keys(key, draw[None])[0]
      posterior = vae.encode(image)
      z, log_q = posterior.sample_and_log_prob(draw_key)
      log_p = vae.decode(z).log_prob(image) + vae.prior().log_prob(z)
      return (log_p - log_q)[0]

    return nn.apply(run, VAE)({"params": params})

  root = jax.random.fold_in(jax.random.key(SEED), Stream.EVALUATE)
  root = jax.random.fold_in(root, 0)
  rows = []
  for i in range(COUNT):
    image, key = source().image[i : i + 1], jax.random.fold_in(root, i)[None]
    rows.append([log_w(image, key, jnp.int32(k)) for k in range(13)])
  return np.array(rows, np.float64)


def test_nll_is_exact_at_the_exact_posterior():
  params, log_likelihood = exact_model()
  expected = -log_likelihood(source().image)
  assert_allclose(estimates(params, 7), expected, rtol=1e-5)


@pytest.mark.parametrize(
  "num_samples, rows, batch_size, devices",
  # Chunks of 3 draws and of 1, so that the last one is padded.
  [(13, 2048, 11, 8), (13, 9, 3, 1), (5, 1, 4, 2)],
)
def test_nll_is_that_of_a_plain_loop_for_any_batch_chunk_and_devices(
  num_samples, rows, batch_size, devices, monkeypatch
):
  chosen = jax.devices()[:devices]
  monkeypatch.setattr(parallel, "devices", lambda: chosen)
  values = one_by_one()[:, :num_samples]
  expected = -np.log(np.mean(np.exp(values), axis=1))
  params, _ = perturbed()
  values = estimates(params, num_samples, batch_size=batch_size, max_rows=rows)
  assert values.shape == (COUNT,)
  assert_allclose(values, expected, rtol=1e-5)


def test_nll_approaches_the_truth_from_above():
  params, log_likelihood = perturbed(0.2)
  exact = -log_likelihood(source().image)
  few, many = (estimates(params, k) for k in (1, 3000))
  assert few.mean() > many.mean() + 0.1
  assert_allclose(many, exact, atol=0.02)


@pytest.mark.parametrize("case", ["binary", "dequantised"])
def test_nll_is_the_bound_of_the_objective_iwae(case, monkeypatch):
  """The same images, labels, noise and draws as `bound.mean_terms` uses."""
  chosen = jax.devices()[:1]
  monkeypatch.setattr(parallel, "devices", lambda: chosen)
  c = tiny_config(
    "",
    objective__name="iwae",
    objective__args__num_samples=6,
    eval__seed=SEED,
    data__image_shape=(4, 4, 1),
  )
  if case == "binary":
    c.data.binarization = "dynamic"
    c.model.condition = "label"
    c.data.num_labels = 3
  else:
    c.data.dequantization = "uniform"
    c.model.likelihood.name = "gaussian"
  split = source((4, 4, 1))
  run = experiment.build(c)
  variables = parallel.replicate(build.init_variables(c, (4, 4, 1)))
  means = bound.mean_terms(
    step.make_eval_step(run), variables, split, batch_size=8, step=0, seed=SEED
  )
  result = likelihood.importance_nll(run, variables, split, num_samples=6)
  assert result["importance_samples"] == 6
  assert result["nll"] == pytest.approx(means["loss"], rel=1e-5)
  assert result["nll"] > 0


def test_standard_error_is_that_of_a_mean_over_images(monkeypatch):
  values = np.array([90.0, 92.0, 97.0])
  monkeypatch.setattr(likelihood, "nll_per_image", lambda *a, **k: values)
  run = exact_experiment()
  result = likelihood.importance_nll(run, {}, source(), num_samples=5)
  # Squares of -3, -1 and 4 over 2, and their mean over 3.
  error = pytest.approx(math.sqrt(13 / 3))
  assert result == {"nll": 93.0, "nll_stderr": error, "importance_samples": 5}


def test_zero_draws_are_refused():
  with pytest.raises(config_lib.ConfigError, match="num_samples is 0"):
    estimates(None, 0)
