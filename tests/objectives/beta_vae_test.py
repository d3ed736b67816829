"""The weight of the rate: what it changes, and its schedules."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  at_step,
  batch_of,
  exact_model,
  images_of,
  terms_of,
)
from vae_jax.objectives.beta_vae import beta_vae, kl_weight
from vae_jax.objectives.elbo import elbo


def test_beta_weighs_the_loss_and_not_the_terms():
  params, _ = exact_model()
  batch = batch_of(images_of(3))
  plain = terms_of(elbo, params, batch)
  for beta in (0.0, 0.5, 4.0):
    terms = terms_of(functools.partial(beta_vae, beta=beta), params, batch)
    np.testing.assert_array_equal(terms.rate, plain.rate)
    np.testing.assert_array_equal(terms.distortion, plain.distortion)
    np.testing.assert_allclose(
      terms.loss, plain.distortion + beta * plain.rate, rtol=1e-6
    )


def test_beta_follows_the_step_of_the_batch():
  params, _ = exact_model()
  batch = at_step(batch_of(images_of(3)), 25)
  warm = functools.partial(
    beta_vae, beta=2.0, schedule="linear", warmup_steps=100
  )
  terms = terms_of(warm, params, batch)
  np.testing.assert_allclose(
    terms.loss, terms.distortion + 0.5 * terms.rate, rtol=1e-6
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
def test_kl_weight_has_its_values_by_hand(schedule, expected):
  warmup_steps = 0 if schedule == "constant" else 100
  weights = [
    kl_weight(jnp.int32(s), 2.0, schedule, warmup_steps, 2)
    for s in (0, 10, 25, 50, 99, 100, 1000)
  ]
  np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_kl_weight_stays_at_its_end():
  """step * cycles does not fit 32 bits long after the warm-up."""
  for schedule in ("steps", "cyclical"):
    assert kl_weight(jnp.int32(3_000_000), 2.0, schedule, 1000, 1000) == 2.0
