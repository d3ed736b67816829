"""What objectives of weighted draws must give on the exact model, by formulas
written out once more."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.linear_gaussian_vae import (
  SHAPE,
  SIGMA,
  batch_of,
  exact_model,
)
from vae_jax import distributions
from vae_jax.objectives import iwae

# Images; bounds that are averaged; draws in each.
N, M, K = 8, 2, 3


def images(count, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


def perturbed(scale=0.5):
  """The exact model with a wrong encoder, and log p(x)."""
  params, log_likelihood = exact_model()
  noise = np.random.default_rng(0)
  head = params["posterior"]["Dense_0"]
  params["posterior"]["Dense_0"] = jax.tree.map(
    lambda v: v + jnp.asarray(scale * noise.normal(size=v.shape), v.dtype), head
  )
  return params, log_likelihood


def noise_of(key, count):
  """The standard normal numbers behind draws 0 to count - 1, [k b d]."""
  zero = jnp.zeros((len(key), 2))
  keys = iwae.draw_keys(key, jnp.arange(count))
  group = distributions.Groups((distributions.DiagonalNormal(zero, zero),))
  return jax.vmap(lambda k: group.sample(k)[0])(keys)


def log_normal(x, mean, sigma):
  square = ((x - mean) / sigma) ** 2
  return (-0.5 * square - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)).sum()


def log_w(model, through, density, x, noise):
  """log w of one image, where the encoder's weights come in two ways."""

  def q(head):
    out = x @ head["kernel"] + head["bias"]
    return out[:2], jnp.exp(0.5 * out[2:])

  mean, sigma = q(through)
  z = mean + sigma * noise
  pixels = z @ model["kernel"] + model["bias"]
  return (
    log_normal(x, pixels, jnp.full(6, SIGMA))
    + log_normal(z, jnp.zeros(2), jnp.ones(2))
    - log_normal(z, *q(density))
  )


@functools.cache
def by_hand():
  """Weights and such of 8 images as NumPy arrays, from formulas alone."""
  params, log_likelihood = perturbed()
  batch = batch_of(images(N))
  x = batch.image.reshape(N, -1) / 255
  noise = noise_of(batch.key, M * K)
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  of_draws = jax.vmap(
    jax.value_and_grad(log_w, (0, 1, 2)), (None, None, None, None, 0)
  )
  of_images = jax.jit(jax.vmap(of_draws, (None, None, None, 0, 1)))
  values, slopes = of_images(decoder, head, head, x, noise)
  x, noise = np.asarray(x), np.asarray(noise)
  out = x @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
  z = out[:, :2] + np.exp(0.5 * out[:, 2:]) * noise
  pixels = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
  return types.SimpleNamespace(
    params=params,
    batch=batch,
    log_w=np.asarray(values),
    # For the model, through the draw, and through the density of the draw.
    slopes=slopes,
    mean=out[:, :2],
    log_variance=out[:, 2:],
    noise=noise,
    z=z,
    residual=x - pixels,
    log_likelihood=log_likelihood(np.asarray(batch.image)),
  )


def softmax(values):
  weights = np.exp(values - values.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


def log_mean_exp(values):
  return np.log(np.mean(np.exp(values), -1))


def expected_loss(name, values):
  tight = log_mean_exp(values)
  if name == "miwae":
    return -log_mean_exp(values.reshape(N, M, K)).mean(1)
  if name == "ciwae":
    return -(0.3 * values.mean(1) + 0.7 * tight)
  return -tight


def expected_weights(name, values):
  """What each draw's derivatives weigh in the gradient of the bound: for the
  model, through the draw, and through the density."""
  tight = softmax(values)
  groups = softmax(values.reshape(N, M, K)).reshape(N, M * K) / M
  mixed = 0.3 / (M * K) + 0.7 * tight
  none = np.zeros_like(tight)
  return {
    "iwae": (tight, tight, tight),
    "miwae": (groups, groups, groups),
    "piwae": (tight, groups, groups),
    "ciwae": (mixed, mixed, mixed),
    "stl": (tight, tight, none),
    "dreg": (tight, tight**2, none),
    # The density is subtracted in log w.
    "rws": (tight, none, -tight),
    "rws_doubly": (tight, tight - tight**2, none),
  }[name]
