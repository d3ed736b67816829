"""Losses of several players on the exact model, compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from tests.support.linear_gaussian_vae import (
  VAE,
  exact_model,
  leaves_of,
  terms_of,
)
from vae_jax import distributions, models
from vae_jax.data.batch import Batch


@struct.dataclass
class _Known(distributions.StandardNormal):
  """A standard normal that draws the same each time."""

  def sample(self, key, temperature=1.0):
    return jnp.tile(jnp.array([[0.7, -1.2]]), (len(key), 1))


class _KnownPrior(nn.Module):
  def __call__(self, encode):
    return _Known(2)


def random_params(module, *args):
  """Returns parameters of a module at random, biases too."""
  tree = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda v: jnp.asarray(0.5 * rng.normal(size=v.shape), v.dtype), tree
  )


def with_critic(critic, reads):
  """Returns the exact model beside a critic, its prior's draws known."""
  return VAE.clone(
    auxiliary=critic, auxiliary_input=reads, latent_prior=_KnownPrior()
  )


def params_with(critic, x):
  """Returns the exact model's parameters and random ones of a critic of x."""
  params, _ = exact_model()
  return {**params, "auxiliary": random_params(critic, x)}


def run(function, vae, params, batch, **state):
  """Returns function(vae, batch)."""
  variables = {"params": params, **models.side_inputs(key=batch.key), **state}
  return nn.apply(function, vae)(variables, batch)


def _named(objective, vae, devices, params, leaves):
  batch = Batch(**leaves)
  terms = terms_of(objective, params, batch, vae=vae, devices=devices)
  named = {k: v for k, v in vars(terms).items() if k != "extras"}
  total = jnp.sum(jnp.where(batch.mask, terms.loss, 0))
  return total / batch.mask.sum(), named | terms.extras


@functools.cache
def _compiled(objective, vae, devices):
  loss = functools.partial(_named, objective, vae, devices)
  return jax.jit(jax.grad(loss, has_aux=True))


def play(objective, vae, params, batch, devices=1):
  """Returns the terms by name, and the gradient of the mean loss."""
  run = _compiled(objective, vae, devices)
  gradient, named = run(params, leaves_of(batch))
  return named, gradient


def values(objective, vae, params, batch):
  """Returns the terms by name."""
  run = jax.jit(functools.partial(_named, objective, vae, 1))
  return run(params, leaves_of(batch))[1]


def assert_close(a, b):
  """Checks that two trees agree to what float32 sums allow."""
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), a, b
  )
