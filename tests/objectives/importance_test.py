"""Weighted draws against formulas written out once more, and in theory."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import struct

from tests.support.importance_oracle import (
  K,
  M,
  N,
  by_hand,
  expected_loss,
  expected_weights,
  images,
  log_mean_exp,
  softmax,
)
from tests.support.linear_gaussian_vae import (
  SIGMA,
  VAE,
  batch_of,
  exact_model,
  terms_of,
)
from vae_jax import config as config_lib
from vae_jax.models import posteriors
from vae_jax.objectives import iwae, iwae_gradients

OBJECTIVES = {
  "iwae": functools.partial(iwae.iwae, num_samples=M * K),
  "miwae": functools.partial(iwae.miwae, num_outer=M, num_samples=K),
  "piwae": functools.partial(iwae.piwae, num_outer=M, num_samples=K),
  "ciwae": functools.partial(iwae.ciwae, beta=0.3, num_samples=M * K),
  "stl": functools.partial(iwae_gradients.stl, num_samples=M * K),
  "dreg": functools.partial(iwae_gradients.dreg, num_samples=M * K),
  "rws": functools.partial(iwae_gradients.rws, num_samples=M * K),
  "rws_doubly": functools.partial(
    iwae_gradients.rws, num_samples=M * K, doubly=True
  ),
}
every = pytest.mark.parametrize("name", OBJECTIVES)
LIMITS = {
  "one_group": functools.partial(iwae.miwae, num_outer=1, num_samples=M * K),
  "single_draws": functools.partial(iwae.miwae, num_outer=M * K, num_samples=1),
  "only_elbo": functools.partial(iwae.ciwae, beta=1.0, num_samples=M * K),
  "landing": functools.partial(iwae_gradients.stl, num_samples=1),
}


@functools.cache
def compiled(devices=1):
  """Returns {objective: (gradient of its mean loss, terms)}, as a function.

  One program for all of them compiles much faster than one for each, and
  without optimisation in half the time again.
  """

  def run(params, batch):
    def loss(params, name):
      objective = (OBJECTIVES | LIMITS)[name]
      terms = terms_of(objective, params, batch, devices=devices)
      return terms.loss.mean(), terms

    grad = jax.grad(loss, has_aux=True)
    names = OBJECTIVES if devices > 1 else OBJECTIVES | LIMITS
    return {name: grad(params, name) for name in names}

  return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def results(devices=1):
  hand = by_hand()
  return compiled(devices)(hand.params, hand.batch)


@functools.cache
def results_at_the_exact_posterior():
  return compiled()(exact_model()[0], by_hand().batch)


@every
def test_values_and_gradients_against_the_formula(name):
  hand = by_hand()
  gradient, terms = results()[name]
  np.testing.assert_allclose(
    terms.loss, expected_loss(name, hand.log_w), rtol=1e-5
  )
  weights = expected_weights(name, hand.log_w)
  model, through, density = (
    jax.tree.map(lambda v, w=w: -np.einsum("bk,bk...", w, v) / N, slope)
    for w, slope in zip(weights, hand.slopes, strict=True)
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient["decoder"]["Dense_0"], model)
  head = jax.tree.map(np.add, through, density)
  jax.tree.map(close, gradient["posterior"]["Dense_0"], head)


@every
def test_what_is_reported_beside_the_loss(name):
  hand = by_hand()
  _, terms = results()[name]
  error = (hand.residual**2).sum(2).mean(0)
  constant = 6 * math.log(SIGMA) + 3 * math.log(2 * math.pi)
  variance = np.exp(hand.log_variance)
  closed = hand.mean**2 + variance - 1 - hand.log_variance
  weights = softmax(hand.log_w)
  for reported, expected in (
    (terms.distortion, error / (2 * SIGMA**2) + constant),
    (terms.rate, 0.5 * closed.sum(1)),
    (terms.extras["neg_iwae"], -log_mean_exp(hand.log_w)),
    (terms.extras["effective_samples"], 1 / (weights**2).sum(1)),
    (terms.extras["squared_error"], error),
  ):
    np.testing.assert_allclose(reported, expected, rtol=1e-4)


def test_the_best_draw_weighs_the_most():
  """The gradient of the decoder's bias is a weighted mean of residuals."""
  hand = by_hand()
  gradient, _ = results()["iwae"]
  weights = softmax(hand.log_w)
  assert (weights.argmax(1) == hand.log_w.argmax(1)).all()
  assert weights.max() > 0.6
  pull = np.einsum("bk,kbd->bd", weights, hand.residual) / SIGMA**2
  np.testing.assert_allclose(
    gradient["decoder"]["Dense_0"]["bias"], -pull.mean(0), rtol=1e-4, atol=1e-4
  )


def test_groups_of_one_draw_and_one_group():
  hand = by_hand()
  tight, loose = -log_mean_exp(hand.log_w), -hand.log_w.mean(1)
  for name, expected in (
    ("one_group", tight),
    ("single_draws", loose),
    ("only_elbo", loose),
  ):
    _, terms = results()[name]
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


@every
def test_at_the_exact_posterior_every_bound_is_tight(name):
  _, terms = results_at_the_exact_posterior()[name]
  expected = -by_hand().log_likelihood
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
  np.testing.assert_allclose(
    terms.extras["effective_samples"], M * K, rtol=1e-5
  )


@functools.cache
def repeated():
  """{objective: (losses [s b], gradients for the encoder's bias [s d])} at
  independent draws."""
  hand = by_hand()
  losses = {name: [] for name in OBJECTIVES | LIMITS}
  gradients = {name: [] for name in losses}
  for seed in range(300):
    key = jax.random.split(jax.random.key(seed), N)
    found = compiled()(hand.params, hand.batch.replace(key=key))
    for name, (gradient, terms) in found.items():
      losses[name].append(terms.loss)
      gradients[name].append(gradient["posterior"]["Dense_0"]["bias"])
  stack = lambda lists: {k: np.array(v) for k, v in lists.items()}  # noqa: E731
  return stack(losses), stack(gradients)


def test_the_bound_grows_with_the_number_of_draws():
  losses, _ = repeated()
  # 1, 3 and 6 draws in each bound, the mean of 6, 2 and 1 bounds.
  by_draws = [losses[name] for name in ("single_draws", "miwae", "iwae")]
  gaps = [v.mean(0) + by_hand().log_likelihood for v in by_draws]
  errors = [v.std(0) / math.sqrt(len(v)) for v in by_draws]
  for i in range(2):
    assert (gaps[i] - gaps[i + 1] > 2 * errors[i]).all()
  assert (gaps[2] > 2 * errors[2]).all()


@pytest.mark.parametrize(
  "noisy, calm", [("iwae", "dreg"), ("rws", "rws_doubly")]
)
def test_two_ways_to_the_same_gradient(noisy, calm):
  _, gradients = repeated()
  a, b = gradients[noisy], gradients[calm]
  error = np.sqrt((a.var(0) + b.var(0)) / len(a))
  assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()
  assert (np.abs(a.mean(0)) > 8 * error).any()
  assert b.var(0).sum() < 0.7 * a.var(0).sum()


def test_one_draw_without_the_density_has_the_gradient_of_the_elbo():
  hand = by_hand()
  decoder = hand.params["decoder"]["Dense_0"]

  def negative_elbo(head):
    """In closed form, up to a constant: all is linear and normal."""
    out = hand.batch.image.reshape(N, -1) / 255 @ head["kernel"]
    out += head["bias"][None]
    mean, log_variance = out[:, :2], out[:, 2:]
    pixels = mean @ decoder["kernel"] + decoder["bias"][None]
    spread = jnp.exp(log_variance) @ jnp.square(decoder["kernel"]).sum(1)
    error = jnp.square(hand.batch.image.reshape(N, -1) / 255 - pixels).sum(1)
    rate = jnp.square(mean) + jnp.exp(log_variance) - log_variance
    return jnp.mean((error + spread) / SIGMA**2 + rate.sum(1)) / 2

  expected = jax.grad(negative_elbo)(hand.params["posterior"]["Dense_0"])
  _, gradients = repeated()
  found = gradients["landing"]
  error = found.std(0) / math.sqrt(len(found))
  assert (np.abs(found.mean(0) - expected["bias"]) < 4 * error).all()
  assert (np.abs(found.mean(0)) > 8 * error).any()


def test_no_gradient_for_the_encoder_at_the_exact_posterior():
  largest = {}
  for name in ("iwae", "stl", "dreg", "rws_doubly"):
    gradient, _ = results_at_the_exact_posterior()[name]
    leaves = jax.tree.leaves(gradient["posterior"])
    largest[name] = max(float(jnp.abs(v).max()) for v in leaves)
  assert largest.pop("iwae") > 0.01
  assert max(largest.values()) < 1e-5


@every
def test_devices_and_batches_change_nothing(name):
  """Of 8 devices each has a batch of one."""
  gradient, terms = results()[name]
  split, single = results(devices=8)[name]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient, split)
  np.testing.assert_allclose(terms.loss, single.loss, rtol=1e-5)


@struct.dataclass
class Laplace:
  """A prior to which no divergence has a closed form."""

  def log_prob(self, z):
    return -jnp.abs(z).sum(-1) - 2 * math.log(2)


class _LaplacePrior(nn.Module):
  def __call__(self, encode):
    return Laplace()


def test_a_prior_without_closed_form():
  hand = by_hand()
  vae = VAE.clone(latent_prior=_LaplacePrior())
  run = functools.partial(terms_of, OBJECTIVES["iwae"], vae=vae)
  terms = jax.jit(run)(hand.params, hand.batch)
  normal = -0.5 * (hand.z**2).sum(2) - math.log(2 * math.pi)
  laplace = -np.abs(hand.z).sum(2) - 2 * math.log(2)
  expected = log_mean_exp(hand.log_w + (laplace - normal).T)
  np.testing.assert_allclose(terms.loss, -expected, rtol=1e-5)
  per_dimension = hand.noise**2 + hand.log_variance + math.log(2 * math.pi)
  rate = (-0.5 * per_dimension.sum(2) - laplace).mean(0)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)


def test_a_draw_depends_on_its_number_alone():
  key = jax.random.split(jax.random.key(0), 3)

  def bits(key, draws):
    return np.asarray(
      jax.random.key_data(iwae.draw_keys(key, jnp.array(draws)))
    )

  many = bits(key, range(5))
  np.testing.assert_array_equal(bits(key, [3, 4]), many[3:])
  np.testing.assert_array_equal(bits(key[1:], range(5)), many[:, 1:])
  assert len(np.unique(many.reshape(15, -1), axis=0)) == 15


@pytest.mark.parametrize(
  "objective, args, said",
  [
    (iwae.iwae, {"num_samples": 0}, "num_samples is 0"),
    (iwae.miwae, {"num_outer": 0}, "num_outer is 0"),
    (iwae.piwae, {"num_outer": -1}, "num_outer is -1"),
    (iwae.ciwae, {"beta": 1.5}, "beta is 1.5; it must be from 0 to 1"),
    (iwae_gradients.stl, {"num_samples": 0}, "num_samples is 0"),
    (iwae_gradients.dreg, {"num_samples": 0}, "num_samples is 0"),
    (iwae_gradients.rws, {"num_samples": 1}, "it must be at least 2"),
  ],
)
def test_wrong_numbers_are_said_in_a_sentence(objective, args, said):
  params, _ = exact_model()
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(functools.partial(objective, **args), params, batch_of(images(1)))


@pytest.mark.parametrize("name", ["iwae", "stl", "dreg", "rws"])
def test_a_posterior_without_density_is_said_in_a_sentence(name):
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  head = {"kernel": jnp.zeros((6, 2)), "bias": jnp.zeros(2)}
  params, _ = exact_model()
  params["posterior"]["Dense_0"] = head
  with pytest.raises(config_lib.ConfigError, match="diagonal_normal"):
    terms_of(OBJECTIVES[name], params, batch_of(images(1)), vae=vae)
