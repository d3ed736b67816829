"""Free bits: sums by hand, and the gradient on both sides of the maximum."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax import distributions
from vae_jax.objectives.free_bits import free_bits, kl_parts


@pytest.mark.parametrize("shift, free", [(-1e-3, 0), (1e-3, 1)])
def test_free_bits_just_below_and_above_the_mean(exact, slopes_of, shift, free):
  params, batch = exact
  kl = linear.kl_of(params, batch.image)
  late = batch.replace(step=jnp.int32(10))
  low = kl.mean(0).argmin()
  free_nats = float(kl.mean(0)[low] + shift)
  schedule = {"schedule": "linear", "warmup_steps": 10}
  objective = functools.partial(
    free_bits, free_nats=free_nats, beta=2.0, **schedule
  )
  terms, slopes = linear.terms_and_slopes(objective, params, late)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  np.testing.assert_array_equal(terms.extras["free_parts"], free)
  clamped = np.maximum(free_nats, kl.mean(0)).sum()
  expected = np.mean(terms.distortion) + 2 * clamped
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-5)
  # A maximum per example is another number.
  assert np.maximum(free_nats, kl).sum(1).mean() > clamped + 0.01
  weights = np.full(2, 2.0)
  weights[low] *= 1 - free
  linear.assert_close(slopes, slopes_of(params, batch, 1, 0, *weights))
  first, _ = linear.terms_and_slopes(objective, params, batch)
  np.testing.assert_allclose(first.loss, first.distortion, rtol=1e-6)
  keep = np.arange(8) < 5
  some = late.replace(mask=jnp.asarray(keep))
  terms, _ = linear.terms_and_slopes(objective, params, some)
  penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
  expected = 2 * np.maximum(free_nats, kl[keep].mean(0)).sum()
  np.testing.assert_allclose(penalty, expected, rtol=1e-4)


def test_free_bits_per_group_clamp_the_sum(exact):
  params, batch = exact
  kl = linear.kl_of(params, batch.image)
  # Above each dimension's mean, and below that of both together.
  free_nats = float(0.9 * kl.sum(1).mean())
  assert free_nats > kl.mean(0).max()
  objective = functools.partial(free_bits, per="group", free_nats=free_nats)
  terms = linear.values_of(objective, params, batch)
  expected = terms.distortion + terms.rate
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def test_kl_parts_are_dimensions_or_groups():
  zeros = jnp.zeros((3, 2))
  groups = (distributions.DiagonalNormal(zeros + m, zeros) for m in (1, 2))
  posterior = distributions.Groups(tuple(groups))
  prior = distributions.Groups((distributions.StandardNormal(2),) * 2)
  parts = kl_parts(posterior, prior, "dimension")
  np.testing.assert_allclose(parts, [[0.5, 0.5, 2, 2]] * 3)
  np.testing.assert_allclose(kl_parts(posterior, prior, "group"), [[1, 4]] * 3)
