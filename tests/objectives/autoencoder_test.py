"""Losses of a code without noise: corruption and sparsity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives import autoencoder

SPARSE = functools.partial(autoencoder.sparse_autoencoder, weight=3.0, rho=0.1)
DENOISE = functools.partial(autoencoder.denoising_autoencoder, amount=0.5)


def test_autoencoder_decodes_the_mean_and_has_no_rate(exact):
  params, batch = exact
  run = functools.partial(linear.values_of, autoencoder.autoencoder, params)
  terms, again = run(batch), run(batch.replace(key=batch.key[::-1]))
  np.testing.assert_array_equal(terms.loss, again.loss)
  assert terms.rate is None
  z, _ = linear.code_of(params, batch.image)
  expected = linear.distortion_of(params, z, batch.image)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


NORMAL = scipy.stats.norm(100, 0.3 * 255)


@pytest.mark.parametrize(
  "corruption, amount, distribution",
  [
    # {value: share of values up to it}.
    ("masking", 0.3, {0: 0.3, 100: 1}),
    ("salt_and_pepper", 0.4, {0: 0.2, 100: 0.8, 255: 1}),
    ("gaussian", 0.3, {v: NORMAL.cdf(v + 0.5) for v in (0, 50, 100, 254)}),
  ],
)
def test_noise_has_its_distribution(corruption, amount, distribution):
  image = jnp.full((200, 5, 4, 3), 100, jnp.uint8)
  key = jax.random.split(jax.random.key(0), len(image))
  settings = {"corruption": corruption, "amount": amount}
  run = linear.jit(functools.partial(autoencoder.corrupt, **settings))
  out = run(image, key)
  assert out.dtype == jnp.uint8
  np.testing.assert_array_equal(run(image, key[::-1]), out[::-1])
  # Of each image, and of each channel.
  assert (out[0] != out[1]).any() and (out[..., 0] != out[..., 1]).any()
  out = np.asarray(out)
  assert corruption == "gaussian" or set(np.unique(out)) == set(distribution)
  for value, share in distribution.items():
    error = (share * (1 - share) / out.size) ** 0.5
    assert abs((out <= value).mean() - share) <= 3 * error


def test_denoising_encodes_the_corrupted_and_compares_with_the_clean(exact):
  params, batch = exact
  for amount, seen in ((1.0, np.zeros_like(batch.image)), (0.0, batch.image)):
    run = functools.partial(DENOISE, amount=amount)
    terms = linear.values_of(run, params, batch)
    expected = linear.distortion_of(
      params, linear.code_of(params, seen)[0], batch.image
    )
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(terms.loss, terms.distortion)
    assert terms.rate is None


def test_sparsity_penalty_equals_its_value_by_hand(exact):
  params, batch = exact
  z, _ = linear.code_of(params, batch.image)
  distortion = linear.distortion_of(params, z, batch.image)
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = linear.terms_and_slopes(SPARSE, params, some)
  active = (1 / (1 + np.exp(-z[keep]))).mean(0)
  penalty = sum(scipy.stats.entropy([0.1, 0.9], [a, 1 - a]) for a in active)
  np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
  np.testing.assert_allclose(terms.loss, distortion + 3 * penalty, rtol=1e-5)
  terms = linear.values_of(
    functools.partial(SPARSE, penalty="l1"), params, batch
  )
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
  terms, slopes = linear.terms_and_slopes(SPARSE, params, batch)
  # d/dz KL(rho || sigmoid(z)) = sigmoid(z) - rho.
  slope = 3 * (1 / (1 + np.exp(-bias)) - 0.1)
  got = slopes["posterior"]["Dense_0"]["bias"][:2]
  np.testing.assert_allclose(got, slope, rtol=1e-3)
  linear.assert_finite(terms.loss)
