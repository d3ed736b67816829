"""InfoVAE: the weights of rate and MMD."""

import functools

import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  check_batches,
  check_padding,
  values_of,
)
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.info_vae import info_vae
from vae_jax.objectives.wae import wae_mmd

INFO = functools.partial(info_vae, alpha=0.25, lambda_mmd=5.0, kernel="imq")
EVIDENCE = functools.partial(info_vae, lambda_mmd=1.0)


def test_info_vae_weighs_rate_and_mmd(exact):
  plain = values_of(elbo, *exact)
  mmd = values_of(wae_mmd, *exact).extras["mmd"]
  for objective, expected in (
    (INFO, 0.75 * plain.rate + 4.25 * mmd),
    (EVIDENCE, plain.rate),
  ):
    terms = values_of(objective, *exact)
    np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
    np.testing.assert_allclose(terms.rate, plain.rate, rtol=1e-6)
    np.testing.assert_allclose(
      terms.loss, plain.distortion + expected, rtol=1e-5
    )


def test_eight_devices_give_the_same_as_one(exact):
  check_batches(info_vae, *exact, per_example=False)


@pytest.mark.parametrize("objective", [INFO, EVIDENCE])
def test_padding_has_no_weight(exact, objective):
  check_padding(objective, exact[0])
