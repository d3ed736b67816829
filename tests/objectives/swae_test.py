"""The sliced Wasserstein distance against transport plans found by search."""

import functools
import itertools

import numpy as np

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives.swae import sliced_wasserstein, swae

FEW = functools.partial(sliced_wasserstein, projections=3)
MANY = functools.partial(sliced_wasserstein, projections=20000)


def test_distance_is_the_best_transport_on_a_line():
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 1)) + 1, rng.normal(size=(8, 1))
  mask = ~np.isin(np.arange(8), [2, 5, 7])
  value = linear.distance_of(FEW, z, p, mask)
  best = min(
    ((z[mask] - p[mask][list(order)]) ** 2).mean()
    for order in itertools.permutations(range(mask.sum()))
  )
  np.testing.assert_allclose(value, np.full(2, best), rtol=1e-5)


def test_distance_of_a_shift_is_a_third_of_its_square():
  p = np.random.default_rng(0).normal(size=(4, 3))
  shift = np.array([1.0, -2.0, 0.5])
  value = linear.distance_of(MANY, p + shift, p)
  # E (theta . shift)^2 for theta uniform on the sphere.
  expected = (shift**2).sum() / 3
  np.testing.assert_allclose(value, np.full(2, expected), rtol=0.03)
  # Batches have different directions, the devices of one batch the same.
  again = linear.distance_of(MANY, p + shift, p, seed=1)
  assert value[0] == value[1] and again[0] == again[1] != value[0]


def test_distance_to_independent_prior_draws_is_above_zero(exact):
  """Codes that are themselves standard normal have a positive distance; a
  comparison of the codes with themselves would give less."""
  params = linear.standard_codes(exact[0])
  run = linear.jit(functools.partial(linear.terms_of, swae, devices=2))
  for seed in range(40):
    terms = run(params, linear.batch_of(8, seed=seed))
    assert terms.extras["sliced_wasserstein"][0] > 0.01
