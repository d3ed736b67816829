"""beta-TCVAE against sums written out in NumPy."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives import beta_tcvae

ESTIMATORS = ("stratified", "weighted")
PARTS = ("mutual_information", "total_correlation", "dimensionwise_kl")
N = 1000


TC = functools.partial(linear.loss_of, "beta_tcvae", dataset_size=N)
TC = functools.partial(TC, alpha=0.5, beta=3.0, gamma=2.0)
LOSSES = {name: TC(estimator=name) for name in ESTIMATORS}
run = linear.jit(functools.partial(linear.terms_of_each, LOSSES, devices=4))


def stratified_by_hand(n, size):
  """1/N for the own image, 1/M for others, the rest on the next image."""
  weights = np.empty((n, n))
  for i in range(n):
    weights[i] = 1 / (n - 1)
    weights[i, i] = 1 / size
    weights[i, (i + 1) % n] = 1 - 1 / size - (n - 2) / (n - 1)
  return weights


def stratified_as_often_copied(n, size):
  """The flat stride n walks down the first column, not the diagonal."""
  weights = np.full(n * n, 1 / (n - 1))
  weights[::n] = 1 / size
  weights[1::n] = (size - n + 1) / (size * (n - 1))
  weights[(n - 2) * n] = (size - n + 1) / (size * (n - 1))
  return weights.reshape(n, n)


@functools.partial(jax.jit, static_argnums=(1, 2))
def weights_under(mask, size, estimator):
  weights = functools.partial(beta_tcvae.log_weights, estimator=estimator)
  return jnp.exp(weights(jnp.arange(len(mask)), mask, dataset_size=size))


def weights_of(n, size, estimator="stratified"):
  return np.asarray(weights_under(jnp.ones(n, bool), size, estimator))


@pytest.mark.parametrize("n, size", [(2, 2), (4, 6), (5, 100)])
def test_stratified_weights_equal_their_definition(n, size):
  weights = weights_of(n, size)
  np.testing.assert_allclose(weights, stratified_by_hand(n, size), rtol=1e-5)
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
  weighted = weights_of(n, size, "weighted")
  np.testing.assert_allclose(weighted, np.full((n, n), 1 / (n * size)), 1e-6)


def test_stratified_weights_leave_out_padding():
  mask = np.array([True, False, True, True, False])
  weights = np.asarray(weights_under(jnp.asarray(mask), 9, "stratified"))
  assert not weights[:, ~mask].any()
  own = weights[np.ix_(mask, mask)]
  np.testing.assert_allclose(own, stratified_by_hand(3, 9), rtol=1e-6)


def bias(weights, size):
  """Largest error of the mean estimate over all batches that hold an image."""
  n = len(weights)
  density = np.random.default_rng(0).lognormal(size=size)
  # What is estimated is q at a draw from image 0, whose density is largest.
  density[0] = 5 * density.max()
  errors = []
  for row in range(n):
    estimates = [
      weights[row] @ density[[*others[:row], 0, *others[row:]]]
      for others in itertools.permutations(range(1, size), n - 1)
    ]
    errors.append(abs(np.mean(estimates) / density.mean() - 1))
  return max(errors)


def test_stratified_estimate_is_unbiased_over_all_batches():
  assert bias(weights_of(4, 6), 6) < 1e-5
  assert bias(stratified_as_often_copied(4, 6), 6) > 0.1
  assert bias(weights_of(4, 6, "weighted"), 6) > 0.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_terms_equal_sums_in_numpy(exact, estimator):
  params, _ = exact
  mask = ~np.isin(np.arange(8), [2, 5])
  batch = linear.batch_of(8, mask=mask)
  terms = run(params, batch)[estimator]
  mean, log_variance = (v[mask] for v in linear.code_of(params, batch.image))
  deviation = np.exp(log_variance / 2)
  z = linear.draw_of(params, batch)[mask].astype(np.float64)
  n = len(z)
  weights = stratified_by_hand(n, N)
  if estimator == "weighted":
    weights = np.full((n, n), 1 / (n * N))
  density = scipy.stats.norm.pdf(z[:, None], mean[None], deviation[None])
  own = np.log([density[i, i].prod() for i in range(n)])
  joint = np.log([weights[i] @ density[i].prod(1) for i in range(n)])
  single = np.log([(weights[i] @ density[i]).prod() for i in range(n)])
  prior = scipy.stats.norm.logpdf(z).sum(1)
  by_hand = (own - joint, joint - single, single - prior)
  parts = 0.5 * by_hand[0] + 3 * by_hand[1] + 2 * by_hand[2]
  values = [terms.extras[name] for name in PARTS]
  for actual, expected in zip(
    (*values, terms.loss - terms.distortion), (*by_hand, parts), strict=True
  ):
    np.testing.assert_allclose(actual[mask], expected, rtol=1e-4, atol=1e-4)
  total = sum(values)[mask]
  np.testing.assert_allclose(total, own - prior, rtol=1e-5, atol=1e-5)
  closed = linear.kl_of(params, batch.image).sum(1)
  np.testing.assert_allclose(terms.rate[mask], closed[mask], rtol=1e-4)
  linear.assert_finite(terms.loss)


def test_total_correlation_of_independent_latents_is_zero():
  """q(z) is N(0, I), so that the truth is 0."""
  n, d, size, s = 64, 10, 737280, 0.9
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(10, n, d)) * math.sqrt(1 - s**2)
  z = mean + s * rng.normal(size=(10, n, d))
  log_variance = jnp.full((n, d), 2 * math.log(s))

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, 0, None))
  def correlation(z, mean, log_weight):
    densities = beta_tcvae.aggregate_log_densities
    joint, single = densities(z, mean, log_variance, log_weight)
    return jnp.mean(joint - single)

  values = {}
  for estimator in ESTIMATORS:
    log_weight = jnp.log(weights_of(n, size, estimator))
    repeats = correlation(jnp.float32(z), jnp.float32(mean), log_weight)
    values[estimator] = float(repeats.mean())
  assert abs(values["stratified"]) < 0.2
  # Each of d + 1 estimates lacks a factor of about N.
  offset = (d - 1) * math.log(size)
  assert abs(values["weighted"] - offset) < 1


def test_one_example_has_no_total_correlation(exact):
  params, _ = exact
  terms = run(params, linear.batch_of(8, mask=np.arange(8) == 3))
  linear.assert_finite(terms)
  correlation = terms["stratified"].extras["total_correlation"]
  np.testing.assert_allclose(correlation[3], 0, atol=1e-5)
  np.testing.assert_allclose(weights_of(1, N), [[1]])
  np.testing.assert_allclose(weights_of(1, N, "weighted"), [[1 / N]], rtol=1e-6)
