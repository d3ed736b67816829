"""Distances between codes and prior against sums and searches by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.exact_model import (
  SHAPE,
  VAE,
  batch_of,
  exact_model,
  part_of,
  terms_of,
)
from vae_jax import parallel
from vae_jax.config import ConfigError
from vae_jax.models import posteriors
from vae_jax.objectives import autoencoders, elbo, wasserstein

SCALES = (0.1, 0.2, 0.5, 1, 2, 5, 10)
OBJECTIVES = [
  wasserstein.wae_mmd,
  functools.partial(wasserstein.wae_mmd, kernel="rbf"),
  wasserstein.info_vae,
  wasserstein.swae,
]


def images(count, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(objective, params, batch, devices=1):
  return terms_of(objective, params, batch, devices=devices)


def distance_of(function, z, prior_z, mask=None, devices=1, seed=0, **options):
  """Returns a distance as if over so many devices, flattened."""
  count = len(z)
  batch = batch_of(np.zeros((count, *SHAPE)), mask=mask, seed=seed)

  def run(leaves):
    leaves, z, prior_z = leaves
    return function(batch.replace(**leaves), z, prior_z, **options)

  def split(v):
    return v.reshape(devices, count // devices, *v.shape[1:])

  leaves = {k: v for k, v in vars(batch).items() if v is not None}
  inputs = (leaves, jnp.float32(z), jnp.float32(prior_z))
  mapped = jax.jit(jax.vmap(run, axis_name=parallel.AXIS))
  return np.asarray(mapped(jax.tree.map(split, inputs))).reshape(-1)


def kernel_by_hand(x, y, kernel):
  square, base = ((x - y) ** 2).sum(), 2 * len(x)
  if kernel == "imq":
    return sum(base * s / (base * s + square) for s in SCALES)
  # 2 sigma^2 = base * s.
  return sum(np.exp(-square / (base * s)) for s in SCALES)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_against_double_loops(kernel):
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(8, 3)) + 1, rng.normal(size=(8, 3))
  mask = np.array([True, False, True, True, True, False, True, True])
  parts = distance_of(wasserstein.mmd, z, p, mask, devices=4, kernel=kernel)
  k = functools.partial(kernel_by_hand, kernel=kernel)
  z, p = z[mask], p[mask]
  n, expected = len(z), 0
  for i, j in np.ndindex(n, n):
    if i != j:
      expected += (k(z[i], z[j]) + k(p[i], p[j])) / (n * (n - 1))
    expected -= 2 * k(z[i], p[j]) / n**2
  np.testing.assert_allclose(parts[mask].mean(), expected, rtol=1e-4)
  assert np.isfinite(parts).all()
  one = distance_of(wasserstein.mmd, z[:1], p[:1], kernel=kernel)
  np.testing.assert_allclose(one, [-2 * k(z[0], p[0])], rtol=1e-5)


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
  value = distance_of(
    wasserstein.sliced_wasserstein, z, p, mask, devices=4, projections=3
  )
  best = min(
    ((z[mask] - p[mask][list(order)]) ** 2).mean()
    for order in itertools.permutations(range(mask.sum()))
  )
  np.testing.assert_allclose(value, np.full(4, best), rtol=1e-5)


def test_sliced_wasserstein_of_a_shift():
  p = np.random.default_rng(0).normal(size=(4, 3))
  shift = np.array([1.0, -2.0, 0.5])
  value = distance_of(
    wasserstein.sliced_wasserstein, p + shift, p, projections=20000
  )
  # E (theta . shift)^2 for theta uniform on the sphere.
  np.testing.assert_allclose(value, [(shift**2).sum() / 3], rtol=0.03)


def test_directions_differ_from_batch_to_batch():
  rng = np.random.default_rng(0)
  z, p = rng.normal(size=(2, 4, 3))
  values = [
    distance_of(
      wasserstein.sliced_wasserstein, z, p, seed=seed, projections=2
    ).item()
    for seed in range(3)
  ]
  assert len(set(values)) == 3


def test_losses_weigh_the_distance():
  params, _ = exact_model()
  batch = batch_of(images(6))
  plain = run(elbo.elbo, params, batch)
  wae = run(functools.partial(wasserstein.wae_mmd, weight=3.0), params, batch)
  sliced = run(functools.partial(wasserstein.swae, weight=3.0), params, batch)
  info = run(
    functools.partial(
      wasserstein.info_vae, alpha=0.25, lambda_mmd=5.0, kernel="imq"
    ),
    params,
    batch,
  )
  for terms in (wae, sliced, info):
    np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
    np.testing.assert_allclose(terms.rate, plain.rate, rtol=1e-6)
  for terms, expected in (
    (wae, 3 * wae.extras["mmd"]),
    (sliced, 3 * sliced.extras["sliced_wasserstein"]),
    (info, 0.75 * plain.rate + 4.25 * wae.extras["mmd"]),
  ):
    np.testing.assert_allclose(
      terms.loss, plain.distortion + expected, rtol=1e-5
    )
  evidence = functools.partial(wasserstein.info_vae, lambda_mmd=1.0)
  np.testing.assert_allclose(
    run(evidence, params, batch).loss, plain.loss, rtol=1e-6
  )


@pytest.mark.parametrize("objective", [wasserstein.wae_mmd, wasserstein.swae])
def test_codes_may_be_points(objective):
  params, _ = exact_model()
  head = params["posterior"]["Dense_0"]
  head = {"kernel": head["kernel"][:, :2], "bias": head["bias"][:2]}
  params = {**params, "posterior": {"Dense_0": head}}
  vae = VAE.clone(posterior=posteriors.deterministic(2))
  batch = batch_of(images(3))
  terms = terms_of(objective, params, batch, vae=vae)
  plain = terms_of(autoencoders.autoencoder, params, batch, vae=vae)
  assert terms.rate is None
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  assert (np.asarray(terms.loss) != np.asarray(plain.loss)).all()


def test_one_device_is_eight():
  params, _ = exact_model()
  batch = batch_of(images(8))

  @functools.partial(jax.jit, static_argnums=1)
  def everything(params, devices):
    def loss(params, objective):
      terms = terms_of(objective, params, batch, devices=devices)
      return jnp.mean(terms.loss), terms

    gradient = jax.grad(loss, has_aux=True)
    return [gradient(params, objective) for objective in OBJECTIVES]

  one, eight = everything(params, 1), everything(params, 8)
  for a, b in zip(*map(jax.tree.leaves, (one, eight)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_padding_has_no_weight():
  params, _ = exact_model()

  @functools.partial(jax.jit, static_argnums=1)
  def everything(batch, devices=1):
    return [terms_of(o, params, batch, devices=devices) for o in OBJECTIVES]

  padded = everything(batch_of(images(4), mask=np.arange(4) < 2), 2)
  alone = everything(part_of(batch_of(images(4)), slice(2)))
  one = everything(batch_of(images(1)))
  for a, b in zip(padded, alone, strict=True):
    np.testing.assert_allclose(a.loss[:2], b.loss, rtol=1e-5)
  for leaf in jax.tree.leaves((padded, one)):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
  "objective, said",
  [
    (
      functools.partial(wasserstein.wae_mmd, kernel="gauss"),
      "kernel is 'gauss'; allowed are imq, rbf",
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
