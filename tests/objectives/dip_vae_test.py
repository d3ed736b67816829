"""DIP-VAE: the covariance penalty against NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  SHAPE,
  batch_of,
  check_batches,
  code_of,
  exact_model,
  images_of,
  values_of,
)
from vae_jax.objectives.dip_vae import dip_vae

DIP = functools.partial(dip_vae, lambda_od=3.0, lambda_d=7.0)
KINDS = {kind: functools.partial(DIP, kind=kind) for kind in ("i", "ii")}


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_covariance_penalty_equals_numpy(kind):
  params, _ = exact_model()
  mask = np.array([True, True, False, True, True, True, False, True])
  batch = batch_of(images_of(8), mask=mask)
  terms = values_of(KINDS[kind], params, batch, devices=4)
  mean, log_variance = (v[mask] for v in code_of(params, batch.image))
  covariance = np.cov(mean, rowvar=False, bias=True)
  if kind == "ii":
    covariance += np.diag(np.exp(log_variance).mean(0))
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
def test_covariance_penalty_is_zero_at_the_identity(kind, variance):
  params, _ = exact_model()
  corners = np.zeros((8, *SHAPE))
  corners[:, 0, :2, 0] = 255 * np.array(list(np.ndindex(2, 2)) * 2)
  kernel = np.zeros((6, 4))
  # Two pixels of 0 or 1 become two means of variance 1 - variance.
  kernel[0, 0] = kernel[1, 1] = 2 * math.sqrt(1 - variance)
  bias = np.array([0, 0, *[math.log(variance or 0.1)] * 2])
  head = {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}
  params = {**params, "posterior": {"Dense_0": head}}
  terms = values_of(KINDS[kind], params, batch_of(corners), devices=4)
  np.testing.assert_allclose(terms.extras["covariance_penalty"], 0, atol=1e-9)


def test_one_example_has_finite_terms(exact):
  params, batch = exact
  one = batch.replace(mask=jnp.arange(8) == 3)
  for objective in KINDS.values():
    for leaf in jax.tree.leaves(values_of(objective, params, one, devices=4)):
      assert np.isfinite(leaf).all()


def test_eight_devices_give_the_same_as_one(exact):
  check_batches(DIP, *exact, per_example=False)
