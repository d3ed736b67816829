"""Regularized autoencoders: weights by hand, slopes by differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives.autoencoder import autoencoder
from vae_jax.objectives.rae import rae


class _Bent(nn.Module):
  @nn.compact
  def __call__(self, z):
    return jnp.tanh(3 * nn.Dense(linear.DIMS)(z)).reshape(-1, *linear.SHAPE)


class _Normed(nn.Module):
  @nn.compact
  def __call__(self, z):
    z = nn.BatchNorm(use_running_average=False)(z)
    return nn.Dense(linear.DIMS)(z).reshape(-1, *linear.SHAPE)


BENT = linear.VAE.clone(decoder=_Bent())
NORMED = linear.VAE.clone(decoder=_Normed())
DECAY = functools.partial(rae, beta=0.7, weight=0.3)
SMOOTH = functools.partial(rae, beta=0.0, kind="gradient_penalty", weight=1.0)


def test_rae_weighs_the_code_and_the_decoder(exact):
  params, batch = exact
  z, _ = linear.code_of(params, batch.image)
  plain = linear.distortion_of(params, z, batch.image) + 0.35 * (z**2).sum(1)
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])
  size = (dense["kernel"] ** 2).sum() + (dense["bias"] ** 2).sum()
  terms, slopes = linear.terms_and_slopes(DECAY, params, batch)
  np.testing.assert_allclose(terms.loss, plain + 0.3 * size, rtol=1e-5)
  assert terms.rate is None
  # Slope of the distortion: (mean - x) / sigma^2.
  x = np.asarray(batch.image).reshape(8, -1) / 255
  error = (z @ dense["kernel"] + dense["bias"] - x) / linear.SIGMA**2
  expected = {
    "kernel": z.T @ error / 8 + 0.6 * dense["kernel"],
    "bias": error.mean(0) + 0.6 * dense["bias"],
  }
  linear.assert_close(slopes["decoder"]["Dense_0"], expected)


def test_gradient_penalty_agrees_with_finite_differences(exact):
  params, batch = exact
  images = np.repeat(np.asarray(batch.image[:1]), 4000, 0)
  z = linear.code_of(params, images[:1])[0][0]
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])

  def size(kernel, h=1e-4):
    def mean(z):
      return np.tanh(3 * (z @ kernel + dense["bias"]))

    ways = h * np.eye(2)
    slopes = [(mean(z + way) - mean(z - way)) / (2 * h) for way in ways]
    return np.square(slopes).sum()

  def penalty(vae, batch):
    terms = SMOOTH(vae, batch)
    return terms.replace(loss=terms.loss - terms.distortion)

  terms, slopes = linear.terms_and_slopes(
    penalty, params, linear.batch_of(images), vae=BENT
  )
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
  norm = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
  params = {**params, "decoder": {"BatchNorm_0": norm, **params["decoder"]}}
  zeros = {"BatchNorm_0": {"mean": jnp.zeros(2), "var": jnp.ones(2)}}
  start = {"params": params, "batch_stats": {"decoder": zeros}}

  def states(objective):
    run = nn.apply(
      lambda vae: objective(vae, batch), NORMED, mutable=["batch_stats"]
    )
    return linear.jit(run)(start)

  terms, state = states(SMOOTH)
  _, plain = states(autoencoder)
  linear.assert_close(state, plain)
  assert (terms.extras["regularizer"] > 0).all()
