"""Losses as values: exact models, hand numbers, finite differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import flatten_util

from tests.support.linear_gaussian_vae import (
  SHAPE,
  SIGMA,
  batch_of,
  exact_model,
  part_of,
  terms_of,
)
from vae_jax import config as config_lib
from vae_jax import objectives
from vae_jax.objectives import autoencoder, elbo


def test_elbo_is_the_log_likelihood_at_the_exact_posterior():
  params, log_likelihood = exact_model()
  images = np.random.default_rng(1).integers(0, 256, (4, *SHAPE))
  for image in images:
    batch = batch_of(np.repeat(image[None], 4000, 0))
    terms = terms_of(elbo.elbo, params, batch)
    negative = np.asarray(terms.distortion + terms.rate)
    error = negative.std() / math.sqrt(4000)
    expected = -float(log_likelihood(image))
    assert abs(negative.mean() - expected) < 5 * error + 1e-4
    assert error < 0.05


def test_elbo_is_never_above_the_log_likelihood():
  params, log_likelihood = exact_model()
  image = np.random.default_rng(1).integers(0, 256, SHAPE)
  batch = batch_of(np.repeat(image[None], 4000, 0))
  for seed in range(5):
    noise = np.random.default_rng(seed)
    worse = jax.tree.map(lambda v: v, params)
    head = worse["posterior"]["Dense_0"]
    worse["posterior"]["Dense_0"] = jax.tree.map(
      lambda v, n=noise: v + jnp.asarray(0.5 * n.normal(size=v.shape), v.dtype),
      head,
    )
    terms = terms_of(elbo.elbo, worse, batch)
    negative = np.asarray(terms.distortion + terms.rate)
    gap = negative.mean() + float(log_likelihood(image))
    assert gap > 5 * negative.std() / math.sqrt(4000)


def test_rate_is_the_closed_form_at_the_exact_posterior():
  params, _ = exact_model()
  image = np.random.default_rng(1).integers(0, 256, (1, *SHAPE))
  rate = terms_of(elbo.elbo, params, batch_of(image)).rate
  head = params["posterior"]["Dense_0"]
  out = image.reshape(1, -1) / 255 @ np.asarray(head["kernel"])
  out = out + np.asarray(head["bias"])
  mean, log_variance = out[:, :2], out[:, 2:]
  expected = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum()
  np.testing.assert_allclose(rate, [expected], rtol=1e-5)


@pytest.mark.parametrize(
  "objective",
  [elbo.elbo, functools.partial(elbo.beta_vae, beta=3.0)],
)
def test_gradient_against_finite_differences(objective):
  params, _ = exact_model()
  batch = batch_of(np.random.default_rng(1).integers(0, 256, (3, *SHAPE)))
  flat, unravel = flatten_util.ravel_pytree(params)

  def loss(flat):
    return jnp.mean(terms_of(objective, unravel(flat), batch).loss)

  gradient = np.asarray(jax.grad(loss)(flat))
  for seed in range(4):
    way = np.random.default_rng(seed).normal(size=flat.shape)
    way = jnp.asarray(way / np.linalg.norm(way), jnp.float32)
    step = 3e-3
    numeric = (loss(flat + step * way) - loss(flat - step * way)) / (2 * step)
    np.testing.assert_allclose(gradient @ way, numeric, rtol=2e-2, atol=2e-2)


def test_beta_weighs_the_loss_and_not_the_terms():
  params, _ = exact_model()
  batch = batch_of(np.random.default_rng(1).integers(0, 256, (3, *SHAPE)))
  plain = terms_of(elbo.elbo, params, batch)
  for beta in (0.0, 0.5, 4.0):
    terms = terms_of(functools.partial(elbo.beta_vae, beta=beta), params, batch)
    np.testing.assert_array_equal(terms.rate, plain.rate)
    np.testing.assert_array_equal(terms.distortion, plain.distortion)
    np.testing.assert_allclose(
      terms.loss, plain.distortion + beta * plain.rate, rtol=1e-6
    )


@pytest.mark.parametrize(
  "schedule, expected",
  [
    ("constant", [2, 2, 2, 2, 2, 2, 2]),
    ("linear", [0, 0.2, 0.5, 1, 1.98, 2, 2]),
    # Two cycles of 50 steps: up over 25, flat over 25.
    ("cyclical", [0, 0.8, 2, 0, 2, 2, 2]),
    # Two stairs, at 50 and at 100.
    ("steps", [0, 0, 0, 1, 1, 2, 2]),
  ],
)
def test_warmup_values(schedule, expected):
  weights = [
    elbo.kl_weight(
      jnp.int32(s),
      beta=2.0,
      schedule=schedule,
      warmup_steps=0 if schedule == "constant" else 100,
      cycles=2,
    )
    for s in (0, 10, 25, 50, 99, 100, 1000)
  ]
  np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_a_warmup_stays_at_its_end():
  """step * cycles does not fit 32 bits long after the warm-up."""
  for schedule in ("steps", "cyclical"):
    weight = elbo.kl_weight(
      jnp.int32(3_000_000),
      beta=2.0,
      schedule=schedule,
      warmup_steps=1000,
      cycles=1000,
    )
    assert weight == 2.0


def test_autoencoder_uses_the_mean_and_has_no_rate():
  params, _ = exact_model()
  batch = batch_of(np.random.default_rng(1).integers(0, 256, (3, *SHAPE)))
  terms = terms_of(autoencoder.autoencoder, params, batch)
  again = terms_of(
    autoencoder.autoencoder,
    params,
    batch.replace(key=jax.random.split(jax.random.key(9), 3)),
  )
  np.testing.assert_array_equal(terms.loss, again.loss)
  assert terms.rate is None
  x = np.asarray(batch.image).reshape(3, -1) / 255
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  z = (x @ np.asarray(head["kernel"]) + np.asarray(head["bias"]))[:, :2]
  mean = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
  expected = -scipy.stats.norm.logpdf(x, mean, SIGMA).sum(1)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


# Losses with a statistic of the global batch, or a network of their own: their
# own tests say what they do over batches.
COUPLED = {
  "beta_tcvae",
  "capacity_vae",
  "dip_vae",
  "factor_vae",
  "free_bits",
  "geco",
  "info_vae",
  "sparse_autoencoder",
  "swae",
  "vae_gan",
  "wae_gan",
  "wae_mmd",
}
# Images of six pixels hold no window of the similarity.
LARGER = {"ssim_vae"}


@pytest.mark.parametrize(
  "name", sorted(set(objectives.names()) - COUPLED - LARGER)
)
def test_examples_do_not_see_one_another(name):
  params, _ = exact_model()
  batch = batch_of(np.random.default_rng(1).integers(0, 256, (4, *SHAPE)))
  c = config_lib.default()
  c.objective.name = name
  objective = objectives.from_config(c)
  whole = terms_of(objective, params, batch)
  assert whole.loss.shape == (4,)
  one = terms_of(objective, params, part_of(batch, slice(2, 3)))
  np.testing.assert_allclose(whole.loss[2:3], one.loss, rtol=1e-5)


def test_names_are_the_functions_of_the_package():
  assert objectives.names() == sorted(
    COUPLED
    | LARGER
    | {
      "autoencoder",
      "beta_vae",
      "ciwae",
      "denoising_autoencoder",
      "dreg",
      "elbo",
      "iwae",
      "miwae",
      "piwae",
      "rae",
      "rws",
      "stl",
    }
  )


def test_a_loss_from_a_users_own_file(tmp_path, monkeypatch):
  (tmp_path / "my_losses.py").write_text(
    "def my_loss(vae, batch, *, scale=1.0):\n"
    "  from vae_jax.objectives import elbo\n"
    "  terms = elbo.elbo(vae, batch)\n"
    "  return terms.replace(loss=scale * terms.loss)\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  c = config_lib.default()
  c.objective.name = "my_losses.my_loss"
  c.objective.args.scale = 3.0
  params, _ = exact_model()
  batch = batch_of(np.zeros((2, *SHAPE)))
  ours = terms_of(objectives.from_config(c), params, batch).loss
  plain = terms_of(elbo.elbo, params, batch).loss
  np.testing.assert_allclose(ours, 3 * plain, rtol=1e-6)


def loss_with_step(vae, batch, *, step):
  return elbo.elbo(vae, batch)


@pytest.mark.parametrize(
  "name, args, said",
  [
    (f"{__name__}.loss_with_step", {}, "argument step; remove it and use bat"),
    ("elbow", {}, "Did you mean elbo"),
    ("elbo", {"beta": 2.0}, "config.objective.args.beta is unknown to elbo"),
    ("beta_vae", {"beta": "2"}, "float"),
    ("nowhere.loss", {}, "nowhere cannot be imported"),
    ("math.sqrt", {}, "no function of"),
    ("math.nothing", {}, "math has no nothing"),
    ("kl_weight", {}, "allowed are autoencoder, beta_tcvae, beta_vae"),
  ],
)
def test_wrong_objectives_are_said_in_a_sentence(name, args, said):
  c = config_lib.default()
  c.objective.name = name
  for key, value in args.items():
    c.objective.args[key] = value
  with pytest.raises(config_lib.ConfigError, match=said):
    objectives.from_config(c)


@pytest.mark.parametrize(
  "args, said",
  [
    ({"beta": -1.0}, "beta is -1.0"),
    ({"schedule": "linera"}, "constant, linear, cyclical, steps"),
    ({"schedule": "linear"}, "warmup_steps is 0"),
    ({"warmup_steps": 9}, "warmup_steps is 9; it must be 0 with schedule con"),
    (
      {"schedule": "steps", "warmup_steps": 10**5, "cycles": 10**5},
      "cycles is 100000",
    ),
    ({"schedule": "cyclical", "warmup_steps": 5, "cycles": 0}, "cycles"),
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(args, said):
  params, _ = exact_model()
  objective = functools.partial(elbo.beta_vae, **args)
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(objective, params, batch_of(np.zeros((2, *SHAPE))))
