"""The encoder's gradient by stl, dreg and rws: mean, noise, and the zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.importance_oracle import (
  N,
  by_hand,
  repeated,
  results_at_the_exact_posterior,
)
from tests.support.linear_gaussian_vae import SIGMA

# One worker compiles for all tests of weighted draws.


@pytest.mark.parametrize(
  "noisy, calm", [("iwae", "dreg"), ("rws", "rws_doubly")]
)
def test_doubly_reparameterized_gradient_has_the_same_mean_and_less_noise(
  noisy, calm
):
  _, gradients = repeated()
  a, b = gradients[noisy], gradients[calm]
  error = np.sqrt((a.var(0) + b.var(0)) / len(a))
  assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()
  assert (np.abs(a.mean(0)) > 8 * error).any()
  assert b.var(0).sum() < 0.7 * a.var(0).sum()


def test_stl_with_one_draw_has_the_gradient_of_the_elbo():
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
  slopes = gradients["landing"]
  error = slopes.std(0) / len(slopes) ** 0.5
  assert (np.abs(slopes.mean(0) - expected["bias"]) < 4 * error).all()
  assert (np.abs(slopes.mean(0)) > 8 * error).any()


def test_encoder_has_no_gradient_at_the_exact_posterior():
  largest = {}
  for name in ("iwae", "stl", "dreg", "rws_doubly"):
    gradient, _ = results_at_the_exact_posterior()[name]
    leaves = jax.tree.leaves(gradient["posterior"])
    largest[name] = max(float(jnp.abs(v).max()) for v in leaves)
  assert largest.pop("iwae") > 0.01
  assert max(largest.values()) < 1e-5
