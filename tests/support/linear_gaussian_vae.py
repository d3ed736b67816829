"""A model small enough to know everything of: linear and normal."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flax import linen as nn

from vae_jax import distributions, models
from vae_jax.data.batch import Batch
from vae_jax.models import posteriors, priors
from vae_jax.runtime import devices as parallel

SIGMA = 0.3
SHAPE = (2, 3, 1)
DIMS = 6


class _Flatten(nn.Module):
  def __call__(self, x):
    return x.reshape(x.shape[0], -1)


class _Linear(nn.Module):
  @nn.compact
  def __call__(self, z):
    return nn.Dense(DIMS)(z).reshape(-1, *SHAPE)


class _LinearNormal(nn.Module):
  def __call__(self, outputs):
    return distributions.Normal(outputs, jnp.float32(math.log(SIGMA)))


VAE = models.Vae(
  encoder=_Flatten(),
  posterior=posteriors.DiagonalNormal(2),
  latent_prior=priors.StandardNormal(2),
  decoder=_Linear(),
  likelihood=_LinearNormal(),
)


def batch_of(images, seed=0, mask=None, label=None):
  """Returns a batch of uint8 images [b 2 3 1], with a key each."""
  count = len(images)
  return Batch(
    image=jnp.asarray(images, jnp.uint8),
    index=jnp.arange(count, dtype=jnp.int32),
    mask=jnp.ones((count,), bool) if mask is None else jnp.asarray(mask),
    key=jax.random.split(jax.random.key(seed), count),
    label=label,
  )


def leaves_of(batch):
  """Returns the fields of a batch that hold a value for each example."""
  fields = vars(batch).items()
  return {k: v for k, v in fields if v is not None and k != "step"}


def part_of(batch, which):
  """Returns some of a batch's examples."""
  return batch.replace(**{k: v[which] for k, v in leaves_of(batch).items()})


def terms_of(objective, params, batch, step=0, vae=VAE, devices=1):
  """Returns an objective's terms, as if over so many devices.

  The axis of devices is a vmap, which has the same collectives as a pmap.
  """

  def run(leaves):
    batch = Batch(**leaves, step=jnp.int32(step))
    side_inputs = models.side_inputs(label=batch.label, key=batch.key)
    bound = nn.apply(objective, vae)
    return bound({"params": params, **side_inputs}, batch)

  def split(v):
    return v.reshape(devices, len(v) // devices, *v.shape[1:])

  structure = None

  def flat(leaves):
    # `Terms` are checked to be [b] whenever they are put together.
    nonlocal structure
    values, structure = jax.tree.flatten(run(leaves))
    return values

  mapped = jax.vmap(flat, axis_name=parallel.AXIS)
  values = mapped(jax.tree.map(split, leaves_of(batch)))
  return jax.tree.unflatten(structure, [v.reshape(-1) for v in values])


def exact_model():
  """x = W z + b + noise with orthogonal columns of W: the posterior is a
  diagonal normal, which the model can represent exactly."""
  rng = np.random.default_rng(0)
  w = np.linalg.qr(rng.normal(size=(DIMS, 2)))[0] * np.array([0.5, 0.2])
  b = rng.uniform(0.3, 0.7, DIMS)
  variance = 1 / (1 + (w**2).sum(0) / SIGMA**2)
  to_mean = w * variance / SIGMA**2
  kernel = np.concatenate([to_mean, np.zeros_like(to_mean)], 1)
  bias = np.concatenate([-b @ to_mean, np.log(variance)])
  params = {
    "posterior": {"Dense_0": {"kernel": kernel, "bias": bias}},
    "decoder": {"Dense_0": {"kernel": w.T, "bias": b}},
  }
  params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
  covariance = w @ w.T + SIGMA**2 * np.eye(DIMS)
  exact = scipy.stats.multivariate_normal(b, covariance)
  return params, lambda image: exact.logpdf(image.reshape(-1, DIMS) / 255)
