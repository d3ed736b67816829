"""Losses of weighted draws on the exact model, and their formulas by hand."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.linear_gaussian_vae import (
  SIGMA,
  batch_of,
  exact_model,
  images_of,
  jit,
  terms_of,
)
from vae_jax import distributions
from vae_jax.objectives import dreg, iwae, rws, stl

# Images; bounds that are averaged; draws in each.
N, M, K = 8, 2, 3

OBJECTIVES = {
  "iwae": functools.partial(iwae.iwae, num_samples=M * K),
  "miwae": functools.partial(iwae.miwae, num_outer=M, num_samples=K),
  "piwae": functools.partial(iwae.piwae, num_outer=M, num_samples=K),
  "ciwae": functools.partial(iwae.ciwae, beta=0.3, num_samples=M * K),
  "stl": functools.partial(stl.stl, num_samples=M * K),
  "dreg": functools.partial(dreg.dreg, num_samples=M * K),
  "rws": functools.partial(rws.rws, num_samples=M * K),
  "rws_doubly": functools.partial(rws.rws, num_samples=M * K, doubly=True),
}
LIMITS = {
  "one_group": functools.partial(iwae.miwae, num_outer=1, num_samples=M * K),
  "single_draws": functools.partial(iwae.miwae, num_outer=M * K, num_samples=1),
  "only_elbo": functools.partial(iwae.ciwae, beta=1.0, num_samples=M * K),
  "landing": functools.partial(stl.stl, num_samples=1),
}


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
  """log w of one image, which the encoder's weights enter by two paths."""

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
  """Returns weights and slopes of 8 images as NumPy arrays, by formulas."""
  params, log_likelihood = perturbed()
  batch = batch_of(images_of(N))
  x = batch.image.reshape(N, -1) / 255
  noise = noise_of(batch.key, M * K)
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  of_draws = jax.vmap(
    jax.value_and_grad(log_w, (0, 1, 2)), (None, None, None, None, 0)
  )
  of_images = jit(jax.vmap(of_draws, (None, None, None, 0, 1)))
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
  """Returns the weight of each draw in the gradient of the bound: for the
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


@functools.cache
def compiled(devices=1):
  """Returns {objective: (gradient of its mean loss, terms)}, as a function.

  One program for all of them compiles much faster than one for each.
  """

  def run(params, batch):
    def loss(params, name):
      objective = (OBJECTIVES | LIMITS)[name]
      terms = terms_of(objective, params, batch, devices=devices)
      return terms.loss.mean(), terms

    grad = jax.grad(loss, has_aux=True)
    names = OBJECTIVES if devices > 1 else OBJECTIVES | LIMITS
    return {name: grad(params, name) for name in names}

  return jit(run)


@functools.cache
def results(devices=1):
  hand = by_hand()
  return compiled(devices)(hand.params, hand.batch)


@functools.cache
def results_at_the_exact_posterior():
  return compiled()(exact_model()[0], by_hand().batch)


@functools.cache
def repeated():
  """{objective: (losses [s b], gradients for the encoder's bias [s d])} at
  independent draws."""
  hand = by_hand()
  losses = {name: [] for name in OBJECTIVES | LIMITS}
  gradients = {name: [] for name in losses}
  for seed in range(300):
    key = jax.random.split(jax.random.key(seed), N)
    values = compiled()(hand.params, hand.batch.replace(key=key))
    for name, (gradient, terms) in values.items():
      losses[name].append(terms.loss)
      gradients[name].append(gradient["posterior"]["Dense_0"]["bias"])
  stack = lambda lists: {k: np.array(v) for k, v in lists.items()}  # noqa: E731
  return stack(losses), stack(gradients)
