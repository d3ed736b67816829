"""Losses of a code without noise: corruption and sparsity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.support.linear_gaussian_vae import (
  batch_of,
  check_batches,
  code_of,
  distortion_of,
  exact_model,
  images_of,
  jit,
  terms_and_slopes,
  values_of,
)
from vae_jax.objectives import autoencoder

SPARSE = functools.partial(autoencoder.sparse_autoencoder, weight=3.0, rho=0.1)
DENOISE = functools.partial(autoencoder.denoising_autoencoder, amount=0.5)


def test_autoencoder_decodes_the_mean_and_has_no_rate():
  params, _ = exact_model()
  batch = batch_of(images_of(3))
  terms = values_of(autoencoder.autoencoder, params, batch)
  again = values_of(
    autoencoder.autoencoder,
    params,
    batch.replace(key=jax.random.split(jax.random.key(9), 3)),
  )
  np.testing.assert_array_equal(terms.loss, again.loss)
  assert terms.rate is None
  z, _ = code_of(params, batch.image)
  expected = distortion_of(params, z, batch.image)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def corrupted(corruption, amount):
  """Returns 200 gray images with noise, after a check that each image's noise
  comes from its own key."""
  image = jnp.full((200, 5, 4, 3), 100, jnp.uint8)
  key = jax.random.split(jax.random.key(0), len(image))
  run = jit(
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


def test_salt_and_pepper_have_the_same_share():
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


def test_denoising_encodes_the_corrupted_and_compares_with_the_clean(exact):
  params, batch = exact
  for amount, seen in ((1.0, np.zeros_like(batch.image)), (0.0, batch.image)):
    run = functools.partial(DENOISE, amount=amount)
    terms = values_of(run, params, batch)
    expected = distortion_of(params, code_of(params, seen)[0], batch.image)
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms.loss, terms.distortion)
    assert terms.rate is None


def test_sparsity_penalty_equals_its_value_by_hand(exact):
  params, batch = exact
  z, _ = code_of(params, batch.image)
  distortion = distortion_of(params, z, batch.image)
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = terms_and_slopes(SPARSE, params, some, devices=8)
  active = (1 / (1 + np.exp(-z[keep]))).mean(0)
  penalty = sum(scipy.stats.entropy([0.1, 0.9], [a, 1 - a]) for a in active)
  np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
  np.testing.assert_allclose(terms.loss, distortion + 3 * penalty, rtol=1e-5)
  terms = values_of(functools.partial(SPARSE, penalty="l1"), params, batch)
  expected = distortion + 3 * abs(z).sum(1)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


@pytest.mark.parametrize("bias", [-300.0, 0.0, 300.0])
def test_sparsity_has_a_gradient_however_far_the_code_is(exact, bias):
  params, batch = exact
  # The penalty alone has a gradient where the decoder ignores the code, and
  # all codes are the bias.
  head = jax.tree.map(jnp.zeros_like, params["posterior"]["Dense_0"])
  head["bias"] = head["bias"].at[:2].set(bias)
  deaf = jax.tree.map(jnp.zeros_like, params["decoder"])
  params = {"posterior": {"Dense_0": head}, "decoder": deaf}
  terms, slopes = terms_and_slopes(SPARSE, params, batch)
  # d/dz KL(rho || sigmoid(z)) = sigmoid(z) - rho.
  slope = 3 * (1 / (1 + np.exp(-bias)) - 0.1)
  got = slopes["posterior"]["Dense_0"]["bias"][:2]
  np.testing.assert_allclose(got, slope, rtol=1e-3)
  assert np.isfinite(terms.loss).all()


@pytest.mark.parametrize(
  "objective, per_example", [(SPARSE, False), (DENOISE, True)]
)
def test_eight_devices_give_the_same_as_one(exact, objective, per_example):
  check_batches(objective, *exact, per_example=per_example)
