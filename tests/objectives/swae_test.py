"""The sliced Wasserstein distance against transport plans found by search."""

import functools
import itertools

import numpy as np

from tests.support.linear_gaussian_vae import (
  VAE,
  batch_of,
  check_batches,
  check_padding,
  distance_of,
  images_of,
  jit,
  standard_codes,
  terms_of,
  values_of,
  without_noise,
)
from vae_jax.models import posteriors
from vae_jax.objectives.autoencoder import autoencoder
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.swae import sliced_wasserstein, swae

FEW = functools.partial(sliced_wasserstein, projections=3)
MANY = functools.partial(sliced_wasserstein, projections=20000)
SWAE = functools.partial(swae, weight=3.0)


def test_distance_is_the_best_transport_on_a_line():
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 1)) + 1, rng.normal(size=(8, 1))
  mask = np.array([True, True, False, True, True, False, True, False])
  value = distance_of(FEW, z, p, mask)
  best = min(
    ((z[mask] - p[mask][list(order)]) ** 2).mean()
    for order in itertools.permutations(range(mask.sum()))
  )
  np.testing.assert_allclose(value, np.full(2, best), rtol=1e-5)


def test_distance_of_a_shift_is_a_third_of_its_square():
  p = np.random.default_rng(0).normal(size=(4, 3))
  shift = np.array([1.0, -2.0, 0.5])
  value = distance_of(MANY, p + shift, p)
  # E (theta . shift)^2 for theta uniform on the sphere.
  expected = (shift**2).sum() / 3
  np.testing.assert_allclose(value, np.full(2, expected), rtol=0.03)
  # Batches have different directions, the devices of one batch the same.
  again = distance_of(MANY, p + shift, p, seed=1)
  assert value[0] == value[1] and again[0] == again[1] != value[0]


def test_swae_weighs_the_distance(exact):
  terms = values_of(SWAE, *exact)
  plain = values_of(elbo, *exact)
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  np.testing.assert_allclose(terms.rate, plain.rate, rtol=1e-6)
  expected = plain.distortion + 3 * terms.extras["sliced_wasserstein"]
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def test_distance_to_independent_prior_draws_is_above_zero(exact):
  """Codes that are themselves standard normal have a positive distance; a
  comparison of the codes with themselves would give less."""
  params, _ = exact
  params = standard_codes(params)
  run = jit(functools.partial(terms_of, SWAE, devices=2))
  for seed in range(40):
    terms = run(params, batch_of(images_of(8), seed=seed))
    assert terms.extras["sliced_wasserstein"][0] > 0.01


def test_codes_may_be_points(exact):
  params, batch = exact
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  params = without_noise(params)
  terms, plain = (
    values_of(o, params, batch, vae=vae) for o in (SWAE, autoencoder)
  )
  assert terms.rate is None
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  assert (np.asarray(terms.loss) != np.asarray(plain.loss)).all()


def test_eight_devices_give_the_same_as_one(exact):
  check_batches(swae, *exact, per_example=False)


def test_padding_has_no_weight(exact):
  check_padding(SWAE, exact[0])
