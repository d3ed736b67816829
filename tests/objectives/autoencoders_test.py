"""Losses of a code without noise: corruption, sparsity, smooth decoders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from tests.support import objective_checks
from tests.support.linear_gaussian_vae import (
  DIMS,
  SHAPE,
  SIGMA,
  VAE,
  batch_of,
  exact_model,
  terms_of,
)
from vae_jax import config as config_lib
from vae_jax.objectives import autoencoder


class _Bent(nn.Module):
  @nn.compact
  def __call__(self, z):
    return jnp.tanh(3 * nn.Dense(DIMS)(z)).reshape(-1, *SHAPE)


class _Normed(nn.Module):
  @nn.compact
  def __call__(self, z):
    z = nn.BatchNorm(use_running_average=False)(z)
    return nn.Dense(DIMS)(z).reshape(-1, *SHAPE)


BENT = VAE.clone(decoder=_Bent())
NORMED = VAE.clone(decoder=_Normed())
SPARSE = functools.partial(autoencoder.sparse_autoencoder, weight=3.0, rho=0.1)
DENOISE = functools.partial(autoencoder.denoising_autoencoder, amount=0.5)
DECAY = functools.partial(autoencoder.rae, beta=0.7, weight=0.3)
SMOOTH = functools.partial(
  autoencoder.rae, beta=0.0, kind="gradient_penalty", weight=1.0
)
observe = objective_checks.terms_and_slopes


@pytest.fixture(scope="module")
def exact():
  """Returns parameters and a batch of 8."""
  params, _ = exact_model()
  images = np.random.default_rng(1).integers(0, 256, (8, *SHAPE))
  return params, batch_of(images)


def code_of(params, image):
  head = jax.tree.map(np.asarray, params["posterior"]["Dense_0"])
  x = np.asarray(image).reshape(len(image), -1) / 255
  return (x @ head["kernel"] + head["bias"])[:, :2]


def distortion_of(params, z, image):
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])
  x = np.asarray(image).reshape(len(image), -1) / 255
  mean = z @ dense["kernel"] + dense["bias"]
  return -scipy.stats.norm.logpdf(x, mean, SIGMA).sum(1)


def corrupted(corruption, amount):
  """Returns 200 grey images with noise, having checked that each one's comes
  from its own key."""
  image = jnp.full((200, 5, 4, 3), 100, jnp.uint8)
  key = jax.random.split(jax.random.key(0), len(image))
  run = objective_checks.jit(
    functools.partial(autoencoder.corrupt, corruption=corruption, amount=amount)
  )
  out = run(image, key)
  assert out.dtype == jnp.uint8
  np.testing.assert_array_equal(run(image, key[::-1]), out[::-1])
  assert (out[0] != out[1]).any()
  return np.asarray(out)


def test_masking_blackens_its_share():
  out = corrupted("masking", 0.3)
  assert set(np.unique(out)) == {0, 100}
  error = (0.3 * 0.7 / out.size) ** 0.5
  assert abs((out == 0).mean() - 0.3) < 5 * error
  assert (out[..., 0] != out[..., 1]).any()


def test_salt_and_pepper_are_as_likely():
  out = corrupted("salt_and_pepper", 0.4)
  error = (0.2 * 0.8 / out.size) ** 0.5
  for value, share in ((0, 0.2), (255, 0.2), (100, 0.6)):
    assert abs((out == value).mean() - share) < 6 * error


def test_gaussian_noise_is_rounded_and_clipped():
  out = corrupted("gaussian", 0.3)
  noise = scipy.stats.norm(100, 0.3 * 255)
  for value in (0, 50, 100, 254):
    share = noise.cdf(value + 0.5)
    error = (share * (1 - share) / out.size) ** 0.5
    assert abs((out <= value).mean() - share) < 5 * error


def test_denoising_reads_the_corrupted_and_judges_by_the_clean(exact):
  params, batch = exact
  for amount, seen in ((1.0, np.zeros_like(batch.image)), (0.0, batch.image)):
    run = functools.partial(DENOISE, amount=amount)
    terms = terms_of(run, params, batch)
    expected = distortion_of(params, code_of(params, seen), batch.image)
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms.loss, terms.distortion)
    assert terms.rate is None


def test_sparsity_by_hand(exact):
  params, batch = exact
  z = code_of(params, batch.image)
  distortion = distortion_of(params, z, batch.image)
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = observe(SPARSE, params, some, devices=8)
  active = (1 / (1 + np.exp(-z[keep]))).mean(0)
  penalty = sum(scipy.stats.entropy([0.1, 0.9], [a, 1 - a]) for a in active)
  np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
  np.testing.assert_allclose(terms.loss, distortion + 3 * penalty, rtol=1e-5)
  terms = terms_of(functools.partial(SPARSE, penalty="l1"), params, batch)
  expected = distortion + 3 * abs(z).sum(1)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


@pytest.mark.parametrize("bias", [-300.0, 0.0, 300.0])
def test_sparsity_teaches_however_far_the_code_is(exact, bias):
  params, batch = exact
  # The penalty alone teaches where the decoder does not read the code, and
  # all codes are the bias.
  head = jax.tree.map(jnp.zeros_like, params["posterior"]["Dense_0"])
  head["bias"] = head["bias"].at[:2].set(bias)
  deaf = jax.tree.map(jnp.zeros_like, params["decoder"])
  params = {"posterior": {"Dense_0": head}, "decoder": deaf}
  terms, slopes = observe(SPARSE, params, batch)
  # d/dz KL(rho || sigmoid(z)) = sigmoid(z) - rho.
  slope = 3 * (1 / (1 + np.exp(-bias)) - 0.1)
  got = slopes["posterior"]["Dense_0"]["bias"][:2]
  np.testing.assert_allclose(got, slope, rtol=1e-3)
  assert np.isfinite(terms.loss).all()


def test_rae_weighs_the_code_and_the_decoder(exact):
  params, batch = exact
  z = code_of(params, batch.image)
  plain = distortion_of(params, z, batch.image) + 0.35 * (z**2).sum(1)
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])
  size = (dense["kernel"] ** 2).sum() + (dense["bias"] ** 2).sum()
  terms, slopes = observe(DECAY, params, batch)
  np.testing.assert_allclose(terms.loss, plain + 0.3 * size, rtol=1e-5)
  assert terms.rate is None
  # Of the distortion: (mean - x) / sigma^2.
  x = np.asarray(batch.image).reshape(8, -1) / 255
  error = (z @ dense["kernel"] + dense["bias"] - x) / SIGMA**2
  expected = {
    "kernel": z.T @ error / 8 + 0.6 * dense["kernel"],
    "bias": error.mean(0) + 0.6 * dense["bias"],
  }
  objective_checks.assert_close(slopes["decoder"]["Dense_0"], expected)


def test_gradient_penalty_against_finite_differences(exact):
  params, batch = exact
  images = np.repeat(np.asarray(batch.image[:1]), 4000, 0)
  z = code_of(params, images[:1])[0]
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])

  def size(kernel, h=1e-4):
    def mean(z):
      return np.tanh(3 * (z @ kernel + dense["bias"]))

    ways = h * np.eye(2)
    return sum(
      (((mean(z + way) - mean(z - way)) / (2 * h)) ** 2).sum() for way in ways
    )

  def penalty(vae, batch):
    terms = SMOOTH(vae, batch)
    return terms.replace(loss=terms.loss - terms.distortion)

  terms, slopes = observe(penalty, params, batch_of(images), vae=BENT)
  drawn = np.asarray(terms.extras["regularizer"])
  np.testing.assert_allclose(terms.loss, drawn, atol=1e-3)
  error = drawn.std() / 4000**0.5
  assert error < 0.02 * drawn.mean()
  assert abs(drawn.mean() - size(dense["kernel"])) < 5 * error
  # Its own gradient: a second pass backwards.
  kernel = dense["kernel"].astype(float)
  numeric = (size(1.001 * kernel) - size(0.999 * kernel)) / 0.002
  slope = (np.asarray(slopes["decoder"]["Dense_0"]["kernel"]) * kernel).sum()
  np.testing.assert_allclose(slope, numeric, rtol=0.05)


def test_gradient_penalty_leaves_batch_statistics_alone(exact):
  params, batch = exact
  params = {
    "posterior": params["posterior"],
    "decoder": {
      "BatchNorm_0": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
      "Dense_0": params["decoder"]["Dense_0"],
    },
  }
  zeros = {
    "decoder": {"BatchNorm_0": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
  }

  def states(objective):
    run = nn.apply(
      lambda vae: objective(vae, batch),
      NORMED,
      mutable=["batch_stats"],
    )
    return objective_checks.jit(run)({"params": params, "batch_stats": zeros})

  terms, state = states(SMOOTH)
  _, plain = states(autoencoder.autoencoder)
  objective_checks.assert_close(state, plain)
  assert (terms.extras["regularizer"] > 0).all()


def test_batches(exact):
  params, batch = exact
  check = functools.partial(
    objective_checks.check_batches, params=params, batch=batch
  )
  check(SPARSE, per_example=False)
  for objective in (DENOISE, DECAY, SMOOTH):
    check(objective, per_example=True)


@pytest.mark.parametrize(
  "objective, args, said",
  [
    ("denoising_autoencoder", {"corruption": "rain"}, "masking"),
    ("denoising_autoencoder", {"amount": 1.5}, "amount is 1.5"),
    ("denoising_autoencoder", {"amount": -0.5}, "amount is -0.5"),
    ("sparse_autoencoder", {"penalty": "l2"}, "kl or l1"),
    ("sparse_autoencoder", {"rho": 1.0}, "between 0 and 1"),
    ("sparse_autoencoder", {"weight": -1.0}, "weight is -1.0"),
    ("rae", {"kind": "gp"}, "l2 or gradient_penalty"),
    ("rae", {"beta": -1.0}, "beta is -1.0"),
    ("rae", {"weight": -1.0}, "weight is -1.0"),
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(
  exact, objective, args, said
):
  function = functools.partial(getattr(autoencoder, objective), **args)
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(function, *exact)
