"""What every loss must hold, whatever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.linear_gaussian_vae import VAE, leaves_of, terms_of
from vae_jax.data.batch import Batch

# Compiling is what takes time in these tests: in half of it, to slower code.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def terms_and_slopes(objective, params, batch, step=0, vae=VAE, devices=1):
  """Returns an objective's terms and the gradient of the mean loss."""
  run = _compiled(objective, vae, devices)
  (_, terms), slopes = run(params, leaves_of(batch), jnp.int32(step))
  return terms, slopes


# Once for all tests of an objective, if they pass the same object.
@functools.cache
def _compiled(objective, vae, devices):
  def loss(params, leaves, step):
    terms = terms_of(
      objective, params, Batch(**leaves), step=step, vae=vae, devices=devices
    )
    return jnp.mean(terms.loss), terms

  return jit(jax.value_and_grad(loss, has_aux=True))


def assert_close(a, b, rtol=3e-4, atol=1e-5):
  """Checks that two trees are equal up to rounding."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    scale = max(np.abs(y).max(), 1)
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol * scale)


def check_batches(objective, params, batch, step=0, vae=VAE, *, per_example):
  """Checks that 8 devices give what one gives, gradient included, and that
  one example among padding gives finite numbers.

  Args:
    objective: the loss.
    params: weights.
    batch: 8 examples.
    step: optimiser steps so far.
    vae: the model.
    per_example: whether an example's terms must not depend on the others.
  """
  run = functools.partial(
    terms_and_slopes, objective, params, step=step, vae=vae
  )
  one = run(batch)
  assert_close(run(batch, devices=8), one)
  first = jnp.arange(len(batch.mask)) == 0
  alone = run(batch.replace(mask=first), devices=8)
  for leaf in jax.tree.leaves(alone):
    assert np.isfinite(leaf).all()
  if per_example:
    others = jnp.where(first[:, None, None, None], batch.image, 0)
    changed, _ = run(batch.replace(image=others))
    assert_close(*(jax.tree.map(lambda v: v[:1], t) for t in (changed, one[0])))
