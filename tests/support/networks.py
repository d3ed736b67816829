"""Random arrays for networks, and comparison up to rounding."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape):
  """Returns random numbers that depend on the number of them alone."""
  rng = np.random.default_rng(math.prod(shape))
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def random_like(tree, scale=1.0):
  """Returns normal numbers of the shapes and types of a tree."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda v: jnp.asarray(scale * rng.normal(size=v.shape), v.dtype), tree
  )


def random_variables(module, *args, scale=1.0):
  """Returns variables of a module, without compiling its initialization."""
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return random_like(jax.eval_shape(module.init, rngs, *args), scale)


def assert_near(a, b, tolerance=1e-5):
  """Checks that trees are equal up to rounding, relative to largest entries."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    atol = tolerance * float(jnp.abs(y).max())
    np.testing.assert_allclose(x, y, rtol=0, atol=atol)
