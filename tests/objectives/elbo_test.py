"""The ELBO on the exact model: the likelihood, hand numbers, differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import flatten_util

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives.beta_vae import beta_vae
from vae_jax.objectives.elbo import elbo


@linear.jit
def negative_elbo(params, batch):
  terms = linear.terms_of(elbo, params, batch)
  return terms.distortion + terms.rate


def test_elbo_is_the_log_likelihood_at_the_exact_posterior():
  params, log_likelihood = linear.exact_model()
  for image in linear.images_of(4):
    batch = linear.batch_of(np.repeat(image[None], 4000, 0))
    negative = np.asarray(negative_elbo(params, batch))
    error = negative.std() / math.sqrt(4000)
    expected = -float(log_likelihood(image))
    assert abs(negative.mean() - expected) < 5 * error + 1e-4
    assert error < 0.05


def test_elbo_is_never_above_the_log_likelihood():
  params, log_likelihood = linear.exact_model()
  image = linear.images_of(1)[0]
  batch = linear.batch_of(np.repeat(image[None], 4000, 0))
  for seed in range(5):
    noise = np.random.default_rng(seed)
    head = jax.tree.map(
      lambda v, n=noise: v + jnp.float32(0.5 * n.normal(size=v.shape)),
      params["posterior"],
    )
    worse = {**params, "posterior": head}
    negative = np.asarray(negative_elbo(worse, batch))
    gap = negative.mean() + float(log_likelihood(image))
    assert gap > 5 * negative.std() / math.sqrt(4000)


def test_rate_is_the_closed_form_at_the_exact_posterior():
  params, _ = linear.exact_model()
  image = linear.images_of(1)
  rate = linear.values_of(elbo, params, linear.batch_of(image)).rate
  expected = [linear.kl_of(params, image).sum()]
  np.testing.assert_allclose(rate, expected, rtol=1e-5)


@pytest.mark.parametrize(
  "objective", [elbo, functools.partial(beta_vae, beta=3.0)]
)
def test_gradient_agrees_with_finite_differences(objective):
  params, _ = linear.exact_model()
  batch = linear.batch_of(3)
  flat, unravel = flatten_util.ravel_pytree(params)

  def loss(flat):
    return jnp.mean(linear.terms_of(objective, unravel(flat), batch).loss)

  value = linear.jit(loss)
  gradient = np.asarray(linear.jit(jax.grad(loss))(flat))
  for seed in range(4):
    way = np.random.default_rng(seed).normal(size=flat.shape)
    way = jnp.asarray(way / np.linalg.norm(way), jnp.float32)
    h = 3e-3
    numeric = (value(flat + h * way) - value(flat - h * way)) / (2 * h)
    np.testing.assert_allclose(gradient @ way, numeric, rtol=2e-2, atol=2e-2)
