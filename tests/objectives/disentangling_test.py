"""Losses on the aggregate posterior against sums written out in NumPy."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from tests.support.linear_gaussian_vae import (
  SHAPE,
  VAE,
  batch_of,
  exact_model,
  terms_of,
)
from vae_jax.config import ConfigError
from vae_jax.models import posteriors
from vae_jax.objectives import beta_tcvae

ESTIMATORS = ("stratified", "weighted")
PARTS = ("mutual_information", "total_correlation", "dimensionwise_kl")
N = 1000

_TC = functools.partial(
  beta_tcvae.beta_tcvae, alpha=0.5, beta=3.0, gamma=2.0, dataset_size=N
)
_DIP = functools.partial(beta_tcvae.dip_vae, lambda_od=3.0, lambda_d=7.0)
OBJECTIVES = {
  "stratified": _TC,
  "weighted": functools.partial(_TC, estimator="weighted"),
  "i": functools.partial(_DIP, kind="i"),
  "ii": functools.partial(_DIP, kind="ii"),
}


def images(count, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


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
  return jnp.exp(
    beta_tcvae.log_weights(
      jnp.arange(len(mask)), mask, dataset_size=size, estimator=estimator
    )
  )


def weights_of(n, size, estimator="stratified"):
  return np.asarray(weights_under(jnp.ones(n, bool), size, estimator))


@jax.jit
def run(params, batch):
  """Returns each objective's terms, over four devices; one compilation."""
  return {
    name: terms_of(objective, params, batch, devices=4)
    for name, objective in OBJECTIVES.items()
  }


@jax.jit
def posterior_of(params, batch):
  """Mean, standard deviation and the draw of each example's posterior."""

  def draw(vae):
    posterior = vae.encode(batch.image)
    (group,) = posterior.groups
    return group.mean, group.log_variance, posterior.sample(batch.key)[0]

  drawn = nn.apply(draw, VAE)({"params": params})
  return drawn[0], jnp.exp(drawn[1] / 2), drawn[2]


@pytest.mark.parametrize("n, size", [(2, 2), (4, 6), (5, 100)])
def test_stratified_weights(n, size):
  weights = weights_of(n, size)
  np.testing.assert_allclose(weights, stratified_by_hand(n, size), rtol=1e-5)
  np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
  weighted = weights_of(n, size, "weighted")
  np.testing.assert_allclose(weighted, np.full((n, n), 1 / (n * size)), 1e-6)


def test_stratified_weights_leave_out_padding():
  mask = np.array([True, False, True, True, False])
  weights = np.asarray(weights_under(jnp.asarray(mask), 9, "stratified"))
  assert not weights[:, ~mask].any()
  kept = weights[np.ix_(mask, mask)]
  np.testing.assert_allclose(kept, stratified_by_hand(3, 9), rtol=1e-6)


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
def test_terms_against_double_loops(estimator):
  params, _ = exact_model()
  mask = np.array([True, True, False, True, True, False, True, True])
  batch = batch_of(images(8), mask=mask)
  terms = run(params, batch)[estimator]
  mean, deviation, z = (
    np.asarray(v, np.float64)[mask] for v in posterior_of(params, batch)
  )
  n = len(z)
  weights = stratified_by_hand(n, N)
  if estimator == "weighted":
    weights = np.full((n, n), 1 / (n * N))
  density = np.empty((n, n, 2))
  for i, j, k in np.ndindex(density.shape):
    density[i, j, k] = scipy.stats.norm.pdf(
      z[i, k], mean[j, k], deviation[j, k]
    )
  own = np.log([density[i, i].prod() for i in range(n)])
  joint = np.log([weights[i] @ density[i].prod(1) for i in range(n)])
  single = np.log([(weights[i] @ density[i]).prod() for i in range(n)])
  prior = scipy.stats.norm.logpdf(z).sum(1)
  by_hand = (own - joint, joint - single, single - prior)
  for name, expected in zip(PARTS, by_hand, strict=True):
    actual = np.asarray(terms.extras[name])[mask]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
  parts = 0.5 * (own - joint) + 3 * (joint - single) + 2 * (single - prior)
  np.testing.assert_allclose(
    (terms.loss - terms.distortion)[mask], parts, rtol=1e-4, atol=1e-4
  )
  total = sum(terms.extras[name] for name in PARTS)
  np.testing.assert_allclose(
    np.asarray(total)[mask], own - prior, rtol=1e-5, atol=1e-5
  )
  closed = 0.5 * (mean**2 + deviation**2 - 1 - np.log(deviation**2)).sum(1)
  np.testing.assert_allclose(np.asarray(terms.rate)[mask], closed, rtol=1e-4)
  assert np.isfinite(terms.loss).all()


def test_total_correlation_of_independent_latents():
  """q(z) is N(0, I), so that the truth is 0."""
  n, d, size, s = 64, 10, 737280, 0.9
  rng = np.random.default_rng(0)
  mean = rng.normal(size=(10, n, d)) * math.sqrt(1 - s**2)
  z = mean + s * rng.normal(size=(10, n, d))
  log_variance = jnp.full((n, d), 2 * math.log(s))

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, 0, None))
  def correlation(z, mean, log_weight):
    joint, single = beta_tcvae.aggregate_log_densities(
      z, mean, log_variance, log_weight
    )
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


def test_batch_of_one():
  params, _ = exact_model()
  terms = run(params, batch_of(images(8), mask=np.arange(8) == 3))
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(terms))
  correlation = terms["stratified"].extras["total_correlation"]
  np.testing.assert_allclose(correlation[3], 0, atol=1e-5)
  np.testing.assert_allclose(weights_of(1, N), [[1]])
  np.testing.assert_allclose(weights_of(1, N, "weighted"), [[1 / N]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_covariance_penalty_against_numpy(kind):
  params, _ = exact_model()
  mask = np.array([True, True, False, True, True, True, False, True])
  batch = batch_of(images(8), mask=mask)
  terms = run(params, batch)[kind]
  mean, deviation, _ = (
    np.asarray(v, np.float64)[mask] for v in posterior_of(params, batch)
  )
  covariance = np.cov(mean, rowvar=False, bias=True)
  if kind == "ii":
    covariance += np.diag((deviation**2).mean(0))
  expected = 0
  for i, j in np.ndindex(2, 2):
    expected += (
      7 * (covariance[i, i] - 1) ** 2 if i == j else 3 * covariance[i, j] ** 2
    )
  np.testing.assert_allclose(
    terms.extras["covariance_penalty"], np.full(8, expected), rtol=1e-4
  )
  np.testing.assert_allclose(
    terms.loss, terms.distortion + terms.rate + expected, rtol=1e-5
  )


@pytest.mark.parametrize("kind, variance", [("i", 0.0), ("ii", 0.4)])
def test_no_covariance_penalty_at_the_identity(kind, variance):
  params, _ = exact_model()
  corners = np.zeros((8, *SHAPE))
  corners[:, 0, :2, 0] = 255 * np.array(list(np.ndindex(2, 2)) * 2)
  kernel = np.zeros((6, 4))
  # Two pixels of 0 or 1 become two means of variance 1 - variance.
  kernel[0, 0] = kernel[1, 1] = 2 * math.sqrt(1 - variance)
  bias = np.array([0, 0, *[math.log(variance or 0.1)] * 2])
  head = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
  params = {**params, "posterior": {"Dense_0": head}}
  terms = run(params, batch_of(corners))[kind]
  np.testing.assert_allclose(terms.extras["covariance_penalty"], 0, atol=1e-9)


def test_one_device_is_eight():
  params, _ = exact_model()
  batch = batch_of(images(8))

  @functools.partial(jax.jit, static_argnums=1)
  def everything(params, devices):
    def loss(params, objective):
      terms = terms_of(objective, params, batch, devices=devices)
      return jnp.mean(terms.loss), terms

    gradient = jax.grad(loss, has_aux=True)
    return [gradient(params, objective) for objective in (_TC, _DIP)]

  one, eight = everything(params, 1), everything(params, 8)
  for a, b in zip(*map(jax.tree.leaves, (one, eight)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "objective, said",
  [
    (
      functools.partial(beta_tcvae.beta_tcvae, estimator="mss"),
      "estimator is 'mss'; allowed are stratified, weighted",
    ),
    (
      functools.partial(beta_tcvae.beta_tcvae, dataset_size=-1),
      "dataset_size is -1",
    ),
    (functools.partial(beta_tcvae.dip_vae, kind="iii"), "allowed are i, ii"),
    (
      functools.partial(beta_tcvae.dip_vae, lambda_d=-1.0),
      "lambda_d is -1.0; it must be 0 or more",
    ),
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(objective, said):
  params, _ = exact_model()
  with pytest.raises(ConfigError, match=said):
    terms_of(objective, params, batch_of(images(2)))


def test_a_posterior_without_density_is_refused_in_a_sentence():
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  with pytest.raises(ConfigError, match="must be diagonal_normal"):
    terms_of(
      beta_tcvae.beta_tcvae,
      {
        "posterior": {
          "Dense_0": {"kernel": jnp.ones((6, 2)), "bias": jnp.ones(2)}
        }
      },
      batch_of(images(2)),
      vae=vae,
    )
