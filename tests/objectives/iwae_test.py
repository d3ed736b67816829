"""Weighted draws against formulas written out once more, and in theory."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import struct

from tests.support import importance_oracle as oracle
from tests.support.linear_gaussian_vae import SIGMA, VAE, values_of
from vae_jax.objectives import iwae

every = pytest.mark.parametrize("name", oracle.OBJECTIVES)


@every
def test_values_and_gradients_equal_the_formula(name):
  hand = oracle.by_hand()
  gradient, terms = oracle.results()[name]
  expected = oracle.expected_loss(name, hand.log_w)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
  weights = oracle.expected_weights(name, hand.log_w)
  model, through, density = (
    jax.tree.map(lambda v, w=w: -np.einsum("bk,bk...", w, v) / oracle.N, slope)
    for w, slope in zip(weights, hand.slopes, strict=True)
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient["decoder"]["Dense_0"], model)
  head = jax.tree.map(np.add, through, density)
  jax.tree.map(close, gradient["posterior"]["Dense_0"], head)


@every
def test_terms_and_extras_equal_their_values_by_hand(name):
  hand = oracle.by_hand()
  _, terms = oracle.results()[name]
  error = (hand.residual**2).sum(2).mean(0)
  constant = 6 * math.log(SIGMA) + 3 * math.log(2 * math.pi)
  variance = np.exp(hand.log_variance)
  closed = hand.mean**2 + variance - 1 - hand.log_variance
  weights = oracle.softmax(hand.log_w)
  for reported, expected in (
    (terms.distortion, error / (2 * SIGMA**2) + constant),
    (terms.rate, 0.5 * closed.sum(1)),
    (terms.extras["neg_iwae"], -oracle.log_mean_exp(hand.log_w)),
    (terms.extras["effective_samples"], 1 / (weights**2).sum(1)),
    (terms.extras["squared_error"], error),
  ):
    np.testing.assert_allclose(reported, expected, rtol=1e-4)


def test_the_best_draw_weighs_the_most():
  """The gradient of the decoder's bias is a weighted mean of residuals."""
  hand = oracle.by_hand()
  gradient, _ = oracle.results()["iwae"]
  weights = oracle.softmax(hand.log_w)
  assert (weights.argmax(1) == hand.log_w.argmax(1)).all()
  assert weights.max() > 0.6
  pull = np.einsum("bk,kbd->bd", weights, hand.residual) / SIGMA**2
  bias = gradient["decoder"]["Dense_0"]["bias"]
  np.testing.assert_allclose(bias, -pull.mean(0), rtol=1e-4, atol=1e-4)


def test_one_group_is_the_bound_and_single_draws_are_the_elbo():
  loose = -oracle.by_hand().log_w.mean(1)
  limits = {"miwae of single draws": loose, "ciwae as elbo": loose}
  limits["miwae of one group"] = -oracle.log_mean_exp(oracle.by_hand().log_w)
  for name, expected in limits.items():
    _, terms = oracle.results()[name]
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


@every
def test_every_bound_is_tight_at_the_exact_posterior(name):
  _, terms = oracle.results_at_the_exact_posterior()[name]
  expected = -oracle.by_hand().log_likelihood
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
  samples = terms.extras["effective_samples"]
  np.testing.assert_allclose(samples, oracle.M * oracle.K, rtol=1e-5)


def test_the_bound_grows_with_the_number_of_draws():
  losses, _ = oracle.repeated()
  # 1, 3 and 6 draws in each bound, the mean of 6, 2 and 1 bounds.
  names = ("miwae of single draws", "miwae", "iwae")
  by_draws = [losses[name] for name in names]
  gaps = [v.mean(0) + oracle.by_hand().log_likelihood for v in by_draws]
  errors = [v.std(0) / math.sqrt(len(v)) for v in by_draws]
  for i in range(2):
    assert (gaps[i] - gaps[i + 1] > 2 * errors[i]).all()
  assert (gaps[2] > 2 * errors[2]).all()


@pytest.mark.parametrize("names", [("iwae", "dreg"), ("rws", "rws doubly")])
def test_doubly_reparameterized_gradient_has_the_same_mean_and_less_noise(
  names,
):
  a, b = (oracle.repeated()[1][name] for name in names)
  error = np.sqrt((a.var(0) + b.var(0)) / len(a))
  assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()
  assert (np.abs(a.mean(0)) > 8 * error).any()
  assert b.var(0).sum() < 0.7 * a.var(0).sum()


def test_stl_with_one_draw_has_the_gradient_of_the_elbo():
  hand = oracle.by_hand()
  decoder = hand.params["decoder"]["Dense_0"]
  x = hand.batch.image.reshape(oracle.N, -1) / 255

  def negative_elbo(head):
    """In closed form, up to a constant: all is linear and normal."""
    out = x @ head["kernel"] + head["bias"][None]
    mean, log_variance = out[:, :2], out[:, 2:]
    pixels = mean @ decoder["kernel"] + decoder["bias"][None]
    spread = jnp.exp(log_variance) @ jnp.square(decoder["kernel"]).sum(1)
    error = jnp.square(x - pixels).sum(1)
    rate = jnp.square(mean) + jnp.exp(log_variance) - log_variance
    return jnp.mean((error + spread) / SIGMA**2 + rate.sum(1)) / 2

  expected = jax.grad(negative_elbo)(hand.params["posterior"]["Dense_0"])
  slopes = oracle.repeated()[1]["stl of one draw"]
  error = slopes.std(0) / len(slopes) ** 0.5
  assert (np.abs(slopes.mean(0) - expected["bias"]) < 4 * error).all()
  assert (np.abs(slopes.mean(0)) > 8 * error).any()


def test_encoder_has_no_gradient_at_the_exact_posterior():
  largest = {}
  for name in ("iwae", "stl", "dreg", "rws doubly"):
    gradient, _ = oracle.results_at_the_exact_posterior()[name]
    leaves = jax.tree.leaves(gradient["posterior"])
    largest[name] = max(float(jnp.abs(v).max()) for v in leaves)
  assert largest.pop("iwae") > 0.01
  assert max(largest.values()) < 1e-5


@struct.dataclass
class Laplace:
  """A prior to which no divergence has a closed form."""

  def log_prob(self, z):
    return -jnp.abs(z).sum(-1) - 2 * math.log(2)


class _LaplacePrior(nn.Module):
  def __call__(self, encode):
    return Laplace()


def test_rate_is_sampled_for_a_prior_without_closed_form():
  hand = oracle.by_hand()
  objective = functools.partial(iwae.iwae, num_samples=oracle.M * oracle.K)
  vae = VAE.clone(latent_prior=_LaplacePrior())
  terms = values_of(objective, hand.params, hand.batch, vae=vae)
  normal = -0.5 * (hand.z**2).sum(2) - math.log(2 * math.pi)
  laplace = -np.abs(hand.z).sum(2) - 2 * math.log(2)
  expected = oracle.log_mean_exp(hand.log_w + (laplace - normal).T)
  np.testing.assert_allclose(terms.loss, -expected, rtol=1e-5)
  per_dimension = hand.noise**2 + hand.log_variance + math.log(2 * math.pi)
  rate = (-0.5 * per_dimension.sum(2) - laplace).mean(0)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)


def test_a_draw_depends_on_its_number_alone():
  key = jax.random.split(jax.random.key(0), 3)

  def bits(key, draws):
    return jax.random.key_data(iwae.draw_keys(key, jnp.array(draws)))

  many = bits(key, range(5))
  np.testing.assert_array_equal(bits(key, [3, 4]), many[3:])
  np.testing.assert_array_equal(bits(key[1:], range(5)), many[:, 1:])
  assert len(np.unique(many.reshape(15, -1), axis=0)) == 15
