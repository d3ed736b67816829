"""The capacity: sums by hand, and the sign of the distance to it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives.capacity_vae import capacity_vae

HOLD = functools.partial(
  capacity_vae, capacity=8.0, gamma=7.0, warmup_steps=100
)


@pytest.mark.parametrize(
  "step, target, sign", [(0, 0, 1), (25, 2, -1), (999, 8, -1)]
)
def test_capacity_rises_and_holds_the_mean_rate(
  exact, slopes_of, step, target, sign
):
  params, batch = exact
  rate = linear.kl_of(params, batch.image).sum(1)
  assert np.sign(rate.mean() - target) == sign
  batch = batch.replace(step=jnp.int32(step))
  terms, slopes = linear.terms_and_slopes(HOLD, params, batch)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)
  expected = np.mean(terms.distortion) + 7 * abs(rate.mean() - target)
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-4)
  np.testing.assert_allclose(terms.extras["capacity"], target, rtol=1e-6)
  weights = 1, 0, 7 * sign, 7 * sign
  linear.assert_close(slopes, slopes_of(params, batch, *weights))


def test_capacity_holds_the_rate_of_each_example(exact):
  params, batch = exact
  rate = linear.kl_of(params, batch.image).sum(1)
  middle = float(rate.mean())
  each = functools.partial(
    capacity_vae, capacity=middle, warmup_steps=0, per="example"
  )
  terms = linear.values_of(each, params, batch)
  expected = terms.distortion + 1000 * abs(rate - middle)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-3)


def test_capacity_holds_the_mean_rate_without_padding(exact):
  params, batch = exact
  kl, keep = linear.kl_of(params, batch.image), np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep), step=jnp.int32(10))
  terms, _ = linear.terms_and_slopes(HOLD, params, some)
  penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
  expected = 7 * abs(kl[keep].sum(1).mean() - 0.8)
  np.testing.assert_allclose(penalty, expected, rtol=1e-4)
