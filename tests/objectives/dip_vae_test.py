"""DIP-VAE: the covariance penalty against NumPy."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear

DIP = functools.partial(linear.loss_of, "dip_vae", lambda_od=3.0, lambda_d=7.0)
LOSSES = {kind: DIP(kind=kind) for kind in ("i", "ii")}
run = linear.jit(functools.partial(linear.terms_of_each, LOSSES, devices=4))


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_covariance_penalty_equals_numpy(exact, kind):
  params, _ = exact
  mask = ~np.isin(np.arange(8), [2, 6])
  batch = linear.batch_of(8, mask=mask)
  terms = run(params, batch)[kind]
  mean, log_variance = (v[mask] for v in linear.code_of(params, batch.image))
  covariance = np.cov(mean, rowvar=False, bias=True)
  if kind == "ii":
    covariance += np.diag(np.exp(log_variance).mean(0))
  expected = 7 * ((np.diag(covariance) - 1) ** 2).sum()
  expected += 3 * 2 * covariance[0, 1] ** 2
  penalty = terms.extras["covariance_penalty"]
  np.testing.assert_allclose(penalty, np.full(8, expected), rtol=1e-4)
  loss = terms.distortion + terms.rate + expected
  np.testing.assert_allclose(terms.loss, loss, rtol=1e-5)


@pytest.mark.parametrize("kind, variance", [("i", 0.0), ("ii", 0.4)])
def test_covariance_penalty_is_zero_at_the_identity(exact, kind, variance):
  corners = np.zeros((8, *linear.SHAPE))
  corners[:, 0, :2, 0] = 255 * np.array(list(np.ndindex(2, 2)) * 2)
  kernel = np.zeros((6, 4))
  # Two pixels of 0 or 1 become two means of variance 1 - variance.
  kernel[0, 0] = kernel[1, 1] = 2 * math.sqrt(1 - variance)
  bias = np.array([0, 0, *[math.log(variance or 0.1)] * 2])
  head = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
  params = {**exact[0], "posterior": {"Dense_0": head}}
  terms = run(params, linear.batch_of(corners))[kind]
  np.testing.assert_allclose(terms.extras["covariance_penalty"], 0, atol=1e-9)
