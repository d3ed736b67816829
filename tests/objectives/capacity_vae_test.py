"""The capacity: sums by hand, and the sign of the distance to it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  assert_close,
  at_step,
  check_batches,
  kl_of,
  terms_and_slopes,
)
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
  rate = kl_of(params, batch.image).sum(1)
  assert np.sign(rate.mean() - target) == sign
  terms, slopes = terms_and_slopes(HOLD, params, at_step(batch, step))
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)
  expected = np.mean(terms.distortion) + 7 * abs(rate.mean() - target)
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-4)
  np.testing.assert_allclose(terms.extras["capacity"], target, rtol=1e-6)
  assert_close(slopes, slopes_of(params, batch, 1, 0, 7 * sign, 7 * sign))


def test_capacity_holds_the_rate_of_each_example(exact):
  params, batch = exact
  rate = kl_of(params, batch.image).sum(1)
  middle = float(rate.mean())
  each = functools.partial(
    capacity_vae, capacity=middle, warmup_steps=0, per="example"
  )
  terms, _ = terms_and_slopes(each, params, batch)
  expected = terms.distortion + 1000 * abs(rate - middle)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-3)


def test_eight_devices_and_padding_leave_the_capacity_alone(exact):
  params, batch = exact
  batch, kl = at_step(batch, 10), kl_of(params, batch.image)
  # Single devices would be on both sides of the target.
  assert kl.sum(1).min() < 0.8 < kl.sum(1).max()
  check_batches(HOLD, params, batch, per_example=False)
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = terms_and_slopes(HOLD, params, some, devices=8)
  penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
  expected = 7 * abs(kl[keep].sum(1).mean() - 0.8)
  np.testing.assert_allclose(penalty, expected, rtol=1e-4)
