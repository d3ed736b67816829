"""Losses of weighted draws on the exact model, and their formulas by hand."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy.stats import norm

from tests.support import linear_gaussian_vae as linear
from tests.support.networks import random_like
from vae_jax import distributions
from vae_jax.objectives import iwae

# Images; bounds that are averaged; draws in each.
N, M, K = 8, 2, 3

OBJECTIVES = {
  "iwae": dict(num_samples=M * K),
  "miwae": dict(num_outer=M, num_samples=K),
  "piwae": dict(num_outer=M, num_samples=K),
  "ciwae": dict(beta=0.3, num_samples=M * K),
  "stl": dict(num_samples=M * K),
  "dreg": dict(num_samples=M * K),
  "rws": dict(num_samples=M * K),
  "rws doubly": dict(num_samples=M * K, doubly=True),
}
LIMITS = {
  "miwae of one group": dict(num_outer=1, num_samples=M * K),
  "miwae of single draws": dict(num_outer=M * K, num_samples=1),
  "ciwae as elbo": dict(beta=1.0, num_samples=M * K),
  "stl of one draw": dict(num_samples=1),
}


def perturbed(scale=0.5):
  """The exact model with a wrong encoder, and log p(x)."""
  params, log_likelihood = linear.exact_model()
  head = params["posterior"]
  head = jax.tree.map(jnp.add, head, random_like(head, scale))
  return {**params, "posterior": head}, log_likelihood


def noise_of(key, count):
  """The standard normal numbers behind draws 0 to count - 1, [k b d]."""
  zero = jnp.zeros((len(key), 2))
  keys = iwae.draw_keys(key, jnp.arange(count))
  group = distributions.Groups((distributions.DiagonalNormal(zero, zero),))
  return jax.vmap(lambda k: group.sample(k)[0])(keys)


def log_w(model, through, density, x, noise):
  """log w of one image, which the encoder's weights enter by two paths."""

  def q(head):
    out = x @ head["kernel"] + head["bias"]
    return out[:2], jnp.exp(0.5 * out[2:])

  mean, sigma = q(through)
  z = mean + sigma * noise
  pixels = z @ model["kernel"] + model["bias"]
  log_likelihood = norm.logpdf(x, pixels, linear.SIGMA).sum()
  return log_likelihood + (norm.logpdf(z) - norm.logpdf(z, *q(density))).sum()


@functools.cache
def by_hand():
  """Returns weights and slopes of 8 images as NumPy arrays, by formulas."""
  params, log_likelihood = perturbed()
  batch = linear.batch_of(N)
  x = batch.image.reshape(N, -1) / 255
  noise = noise_of(batch.key, M * K)
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  slopes_of = jax.value_and_grad(log_w, (0, 1, 2))
  of_draws = jax.vmap(slopes_of, (None, None, None, None, 0))
  of_images = linear.jit(jax.vmap(of_draws, (None, None, None, 0, 1)))
  values, slopes = of_images(decoder, head, head, x, noise)
  noise = np.asarray(noise)
  mean, log_variance = linear.code_of(params, batch.image)
  z = mean + np.exp(0.5 * log_variance) * noise
  pixels = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
  return types.SimpleNamespace(
    params=params,
    batch=batch,
    log_w=np.asarray(values),
    # For the model, through the draw, and through the density of the draw.
    slopes=slopes,
    mean=mean,
    log_variance=log_variance,
    noise=noise,
    z=z,
    residual=np.asarray(x) - pixels,
    log_likelihood=log_likelihood(np.asarray(batch.image)),
  )


# Over the last axis.
softmax = functools.partial(scipy.special.softmax, axis=-1)


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
    "rws doubly": (tight, tight - tight**2, none),
  }[name]


@linear.jit
def run(params, batch):
  """Returns {objective: (gradient of its mean loss, terms)}.

  One program for all of them compiles much faster than one for each.
  """

  def loss(params, objective):
    terms = linear.terms_of(objective, params, batch)
    return terms.loss.mean(), terms

  grad, every = jax.grad(loss, has_aux=True), OBJECTIVES | LIMITS
  return {
    k: grad(params, linear.loss_of(k, **args)) for k, args in every.items()
  }


@functools.cache
def results():
  return run(by_hand().params, by_hand().batch)


@functools.cache
def results_at_the_exact_posterior():
  return run(linear.exact_model()[0], by_hand().batch)


@functools.cache
def repeated():
  """{objective: (losses [s b], gradients for the encoder's bias [s d])} at
  independent draws."""
  hand, found = by_hand(), []
  for seed in range(300):
    key = jax.random.split(jax.random.key(seed), N)
    values = run(hand.params, hand.batch.replace(key=key))
    bias = {
      k: v["posterior"]["Dense_0"]["bias"] for k, (v, _) in values.items()
    }
    found.append(({k: v.loss for k, (_, v) in values.items()}, bias))
  return jax.tree.map(lambda *v: np.array(v), *found)
