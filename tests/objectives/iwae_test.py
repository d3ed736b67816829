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
  OBJECTIVES,
  K,
  M,
  N,
  by_hand,
  expected_loss,
  expected_weights,
  log_mean_exp,
  repeated,
  results,
  results_at_the_exact_posterior,
  softmax,
)
from tests.support.linear_gaussian_vae import (
  SIGMA,
  VAE,
  batch_of,
  exact_model,
  images_of,
  jit,
  terms_of,
  without_noise,
)
from vae_jax import config as config_lib
from vae_jax.models import posteriors
from vae_jax.objectives import iwae

# One worker compiles for all tests of weighted draws.
every = pytest.mark.parametrize("name", OBJECTIVES)


@every
def test_values_and_gradients_equal_the_formula(name):
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
def test_terms_and_extras_equal_their_values_by_hand(name):
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


def test_one_group_is_the_bound_and_single_draws_are_the_elbo():
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
def test_every_bound_is_tight_at_the_exact_posterior(name):
  _, terms = results_at_the_exact_posterior()[name]
  expected = -by_hand().log_likelihood
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
  np.testing.assert_allclose(
    terms.extras["effective_samples"], M * K, rtol=1e-5
  )


def test_the_bound_grows_with_the_number_of_draws():
  losses, _ = repeated()
  # 1, 3 and 6 draws in each bound, the mean of 6, 2 and 1 bounds.
  by_draws = [losses[name] for name in ("single_draws", "miwae", "iwae")]
  gaps = [v.mean(0) + by_hand().log_likelihood for v in by_draws]
  errors = [v.std(0) / math.sqrt(len(v)) for v in by_draws]
  for i in range(2):
    assert (gaps[i] - gaps[i + 1] > 2 * errors[i]).all()
  assert (gaps[2] > 2 * errors[2]).all()


@every
def test_eight_devices_give_the_same_as_one(name):
  """Each of 8 devices has a batch of one."""
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


def test_rate_is_sampled_for_a_prior_without_closed_form():
  hand = by_hand()
  vae = VAE.clone(latent_prior=_LaplacePrior())
  run = functools.partial(terms_of, OBJECTIVES["iwae"], vae=vae)
  terms = jit(run)(hand.params, hand.batch)
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


@pytest.mark.parametrize("name", ["iwae", "stl", "dreg", "rws"])
def test_a_posterior_without_density_is_refused(name):
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  params = without_noise(exact_model()[0])
  with pytest.raises(config_lib.ConfigError, match="diagonal_normal"):
    terms_of(OBJECTIVES[name], params, batch_of(images_of(1)), vae=vae)
