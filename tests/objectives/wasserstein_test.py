"""Distances between codes and prior against sums and searches by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.linear_gaussian_vae import (
  SHAPE,
  VAE,
  batch_of,
  exact_model,
  part_of,
  terms_of,
)
from vae_jax.config import ConfigError
from vae_jax.models import posteriors
from vae_jax.objectives import autoencoder, elbo
from vae_jax.objectives import wae as wasserstein
from vae_jax.runtime import devices as parallel

SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)
IMQ = functools.partial(wasserstein.mmd, kernel="imq")
RBF = functools.partial(wasserstein.mmd, kernel="rbf")
FEW = functools.partial(wasserstein.sliced_wasserstein, projections=3)
MANY = functools.partial(wasserstein.sliced_wasserstein, projections=20000)

OBJECTIVES = {
  "elbo": elbo.elbo,
  "wae": functools.partial(wasserstein.wae_mmd, weight=3.0),
  "swae": functools.partial(wasserstein.swae, weight=3.0),
  "info": functools.partial(
    wasserstein.info_vae, alpha=0.25, lambda_mmd=5.0, kernel="imq"
  ),
  "evidence": functools.partial(wasserstein.info_vae, lambda_mmd=1.0),
}


def images(count, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


@jax.jit
def run(params, batch):
  """Returns each objective's terms, over two devices; one compilation."""
  return {
    name: terms_of(objective, params, batch, devices=2)
    for name, objective in OBJECTIVES.items()
  }


@functools.partial(jax.jit, static_argnums=0)
def _over_two_devices(distance, batch, z, prior_z):
  def split(v):
    return v.reshape(2, len(v) // 2, *v.shape[1:])

  def part(key, mask, z, prior_z):
    count = len(mask)
    part = part_of(batch, slice(count)).replace(key=key, mask=mask)
    return distance(part, z, prior_z)

  inputs = map(split, (batch.key, batch.mask, z, prior_z))
  return jax.vmap(part, axis_name=parallel.AXIS)(*inputs).reshape(-1)


def distance_of(distance, z, prior_z, mask=None, seed=0):
  """Returns a distance over two devices, as each of them has it."""
  batch = batch_of(np.zeros((len(z), *SHAPE)), mask=mask, seed=seed)
  value = _over_two_devices(
    distance, batch, jnp.float32(z), jnp.float32(prior_z)
  )
  return np.asarray(value)


def kernel_by_hand(x, y, kernel):
  square, base = ((x - y) ** 2).sum(), 2 * len(x)
  if kernel == "imq":
    return sum(base * s / (base * s + square) for s in SCALES)
  # 2 sigma^2 = base * s.
  return sum(np.exp(-square / (base * s)) for s in SCALES)


@pytest.mark.parametrize("kernel, distance", [("imq", IMQ), ("rbf", RBF)])
def test_mmd_against_double_loops(kernel, distance):
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 3)) + 1, rng.normal(size=(8, 3))
  mask = np.array([True, False, True, True, True, False, True, True])
  parts = distance_of(distance, z, p, mask)
  k = functools.partial(kernel_by_hand, kernel=kernel)
  kept, drawn = z[mask], p[mask]
  n, expected = len(kept), 0
  for i, j in np.ndindex(n, n):
    if i != j:
      same = k(kept[i], kept[j]) + k(drawn[i], drawn[j])
      expected += same / (n * (n - 1))
    expected -= 2 * k(kept[i], drawn[j]) / n**2
  np.testing.assert_allclose(parts[mask].mean(), expected, rtol=1e-4)
  assert np.isfinite(parts).all()
  one = distance_of(distance, z, p, np.arange(8) == 2)
  np.testing.assert_allclose(one[2], -2 * k(z[2], p[2]), rtol=1e-5)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_zero_on_average_for_equal_distributions(kernel):
  rng = np.random.default_rng(0)
  draws = rng.normal(size=(2, 200, 16, 4))
  batch = batch_of(np.zeros((16, *SHAPE)))

  def run(z, prior_z):
    part = functools.partial(wasserstein.mmd, batch, kernel=kernel)
    mapped = jax.vmap(part, axis_name=parallel.AXIS)
    return mapped(z[None], prior_z[None]).mean()

  run = jax.jit(jax.vmap(run))
  same = np.asarray(run(*jnp.float32(draws)))
  assert abs(same.mean()) < 4 * same.std() / np.sqrt(200)
  apart = np.asarray(run(jnp.float32(draws[0]) + 1, jnp.float32(draws[1])))
  assert apart.mean() > 20 * same.std() / np.sqrt(200)


def test_kernels_have_one_scale_in_any_dimension():
  for d in (2, 32):
    origin, ones = jnp.zeros((1, d)), jnp.ones((1, d))
    for kernel in ("imq", "rbf"):
      value = functools.partial(wasserstein.kernel_values, kernel=kernel)
      np.testing.assert_allclose(value(origin, origin), [[7]], rtol=1e-6)
      near = (7 - value(origin, 0.01 * ones)) / (0.5 * 0.01**2)
      np.testing.assert_allclose(near, [[sum(1 / s for s in SCALES)]], rtol=0.1)
    # |x - y|^2 = 2 d, the mean over pairs of prior draws: r = 1.
    far = np.sqrt(2) * ones
    np.testing.assert_allclose(
      wasserstein.kernel_values(origin, far, kernel="imq"),
      [[sum(s / (s + 1) for s in SCALES)]],
      rtol=1e-5,
    )
    np.testing.assert_allclose(
      wasserstein.kernel_values(origin, far, kernel="rbf"),
      [[sum(np.exp(-1 / s) for s in SCALES)]],
      rtol=1e-5,
    )


def test_sliced_wasserstein_is_the_best_transport_on_a_line():
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 1)) + 1, rng.normal(size=(8, 1))
  mask = np.array([True, True, False, True, True, False, True, False])
  value = distance_of(FEW, z, p, mask)
  best = min(
    ((z[mask] - p[mask][list(order)]) ** 2).mean()
    for order in itertools.permutations(range(mask.sum()))
  )
  np.testing.assert_allclose(value, np.full(2, best), rtol=1e-5)


def test_sliced_wasserstein_of_a_shift():
  p = np.random.default_rng(0).normal(size=(4, 3))
  shift = np.array([1.0, -2.0, 0.5])
  value = distance_of(MANY, p + shift, p)
  # E (theta . shift)^2 for theta uniform on the sphere.
  expected = (shift**2).sum() / 3
  np.testing.assert_allclose(value, np.full(2, expected), rtol=0.03)
  # Each batch has directions of its own, and its devices have the same.
  again = distance_of(MANY, p + shift, p, seed=1)
  assert value[0] == value[1] and again[0] == again[1] != value[0]


def test_losses_weigh_the_distance():
  params, _ = exact_model()
  terms = run(params, batch_of(images(8)))
  plain = terms["elbo"]
  for one in terms.values():
    np.testing.assert_allclose(one.distortion, plain.distortion, rtol=1e-6)
    np.testing.assert_allclose(one.rate, plain.rate, rtol=1e-6)
  mmd = terms["wae"].extras["mmd"]
  for name, expected in {
    "wae": 3 * mmd,
    "swae": 3 * terms["swae"].extras["sliced_wasserstein"],
    "info": 0.75 * plain.rate + 4.25 * mmd,
    "evidence": plain.rate,
  }.items():
    np.testing.assert_allclose(
      terms[name].loss, plain.distortion + expected, rtol=1e-5
    )


def test_distances_compare_codes_with_independent_prior_draws():
  """Codes that are themselves standard normal are at no distance."""
  params, _ = exact_model()
  head = {"kernel": jnp.zeros((6, 4)), "bias": jnp.zeros((4,))}
  params = {**params, "posterior": {"Dense_0": head}}
  pairs = []
  for seed in range(40):
    terms = run(params, batch_of(images(8), seed=seed))
    pairs.append(
      (
        terms["wae"].extras["mmd"].mean(),
        terms["swae"].extras["sliced_wasserstein"][0],
      )
    )
  mmd, sliced = np.array(pairs).T
  assert abs(mmd.mean()) < 4 * mmd.std() / np.sqrt(40)
  # Were they the codes themselves, both would be less.
  assert mmd.std() > 0.05 and sliced.min() > 0.01


def test_codes_may_be_points():
  params, _ = exact_model()
  head = params["posterior"]["Dense_0"]
  head = {"kernel": head["kernel"][:, :2], "bias": head["bias"][:2]}
  params = {**params, "posterior": {"Dense_0": head}}
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  batch = batch_of(images(8))
  losses = (wasserstein.wae_mmd, wasserstein.swae, autoencoder.autoencoder)
  wae, sliced, plain = jax.jit(
    lambda: [terms_of(o, params, batch, vae=vae) for o in losses]
  )()
  for terms in (wae, sliced):
    assert terms.rate is None
    np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
    assert (np.asarray(terms.loss) != np.asarray(plain.loss)).all()


def test_one_device_is_eight():
  params, _ = exact_model()
  objectives = (wasserstein.info_vae, wasserstein.swae)
  batch = batch_of(images(8))

  @functools.partial(jax.jit, static_argnums=1)
  def everything(params, devices):
    def loss(params, objective):
      terms = terms_of(objective, params, batch, devices=devices)
      return jnp.mean(terms.loss), terms

    gradient = jax.grad(loss, has_aux=True)
    return [gradient(params, objective) for objective in objectives]

  one, eight = everything(params, 1), everything(params, 8)
  for a, b in zip(*map(jax.tree.leaves, (one, eight)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_padding_has_no_weight():
  params, _ = exact_model()
  mask, other = np.arange(8) < 5, images(8, seed=2)
  other[:5] = images(8)[:5]
  one = run(params, batch_of(images(8), mask=mask))
  two = run(params, batch_of(other, mask=mask))
  for name in OBJECTIVES:
    np.testing.assert_allclose(
      one[name].loss[:5], two[name].loss[:5], rtol=1e-5
    )
  single = run(params, batch_of(images(8), mask=np.arange(8) == 6))
  for leaf in jax.tree.leaves((one, single)):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
  "objective, said",
  [
    (
      functools.partial(wasserstein.wae_mmd, kernel="gauss"),
      "kernel is 'gauss'; it must be imq or rbf",
    ),
    (functools.partial(wasserstein.wae_mmd, weight=-1.0), "weight is -1.0"),
    (
      functools.partial(wasserstein.info_vae, lambda_mmd=0.5),
      "lambda_mmd is 0.5; it must be at least 1.0",
    ),
    (functools.partial(wasserstein.swae, projections=0), "at least 1"),
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(objective, said):
  params, _ = exact_model()
  with pytest.raises(ConfigError, match=said):
    terms_of(objective, params, batch_of(images(2)))
