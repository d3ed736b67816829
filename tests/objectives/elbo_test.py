"""The ELBO on the exact model: the likelihood, hand numbers, differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import flatten_util

from tests.support.linear_gaussian_vae import (
  batch_of,
  exact_model,
  images_of,
  jit,
  kl_of,
  terms_of,
  values_of,
)
from vae_jax.objectives.beta_vae import beta_vae
from vae_jax.objectives.elbo import elbo


@jit
def negative_elbo(params, batch):
  terms = terms_of(elbo, params, batch)
  return terms.distortion + terms.rate


def test_elbo_is_the_log_likelihood_at_the_exact_posterior():
  params, log_likelihood = exact_model()
  for image in images_of(4):
    batch = batch_of(np.repeat(image[None], 4000, 0))
    negative = np.asarray(negative_elbo(params, batch))
    error = negative.std() / math.sqrt(4000)
    expected = -float(log_likelihood(image))
    assert abs(negative.mean() - expected) < 5 * error + 1e-4
    assert error < 0.05


def test_elbo_is_never_above_the_log_likelihood():
  params, log_likelihood = exact_model()
  image = images_of(1)[0]
  batch = batch_of(np.repeat(image[None], 4000, 0))
  for seed in range(5):
    noise = np.random.default_rng(seed)
    worse = jax.tree.map(lambda v: v, params)
    head = worse["posterior"]["Dense_0"]
    worse["posterior"]["Dense_0"] = jax.tree.map(
      lambda v, n=noise: v + jnp.asarray(0.5 * n.normal(size=v.shape), v.dtype),
      head,
    )
    negative = np.asarray(negative_elbo(worse, batch))
    gap = negative.mean() + float(log_likelihood(image))
    assert gap > 5 * negative.std() / math.sqrt(4000)


def test_rate_is_the_closed_form_at_the_exact_posterior():
  params, _ = exact_model()
  image = images_of(1)
  rate = values_of(elbo, params, batch_of(image)).rate
  np.testing.assert_allclose(rate, [kl_of(params, image).sum()], rtol=1e-5)


@pytest.mark.parametrize(
  "objective", [elbo, functools.partial(beta_vae, beta=3.0)]
)
def test_gradient_agrees_with_finite_differences(objective):
  params, _ = exact_model()
  batch = batch_of(images_of(3))
  flat, unravel = flatten_util.ravel_pytree(params)

  def loss(flat):
    return jnp.mean(terms_of(objective, unravel(flat), batch).loss)

  value, gradient = jit(loss), np.asarray(jit(jax.grad(loss))(flat))
  for seed in range(4):
    way = np.random.default_rng(seed).normal(size=flat.shape)
    way = jnp.asarray(way / np.linalg.norm(way), jnp.float32)
    h = 3e-3
    numeric = (value(flat + h * way) - value(flat - h * way)) / (2 * h)
    np.testing.assert_allclose(gradient @ way, numeric, rtol=2e-2, atol=2e-2)
