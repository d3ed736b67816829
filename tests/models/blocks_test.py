"""Building blocks: resizing, batch norm over devices, dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.networks import assert_near, normal
from vae_jax.models import blocks


def test_halve_and_double():
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  expected = [[2.0, 3.5], [6.5, 8.0]]
  np.testing.assert_allclose(blocks.halve(x)[0, :, :, 0], expected)
  doubled = np.asarray(x).repeat(2, 1).repeat(2, 2)
  np.testing.assert_allclose(blocks.double(x), doubled)
  assert blocks.halved_sizes((29, 64), 2) == [(29, 64), (15, 32), (8, 16)]


def test_batch_norm_of_eight_devices_is_that_of_one():
  x = normal(16, 4, 4, 3)
  module = blocks.BatchNormAct(nn.relu, train=True)
  variables = module.init(jax.random.key(0), x)

  def step(axis_name, x):
    module = blocks.BatchNormAct(nn.relu, train=True, axis_name=axis_name)
    return module.apply(variables, x, mutable=["batch_stats"])

  y, stats = step(None, x)
  step = jax.pmap(functools.partial(step, "batch"), axis_name="batch")
  many, many_stats = step(x.reshape(8, 2, 4, 4, 3))
  assert_near(many.reshape(y.shape), y)
  for device in range(8):
    assert_near(jax.tree.map(lambda v, d=device: v[d], many_stats), stats)


def test_dropout_takes_whole_channels_and_only_while_training():
  x = jnp.ones((16, 3, 3, 32))
  make = functools.partial(
    blocks.BatchNormAct, nn.relu, batch_norm=False, dropout=0.25
  )
  rngs = {"dropout": jax.random.key(0)}
  y = np.asarray(make(train=True).apply({}, x, rngs=rngs))
  assert (y == y[:, :1, :1]).all()
  np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
  assert abs((y == 0).mean() - 0.25) < 0.06
  np.testing.assert_array_equal(make(train=False).apply({}, x), x)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="activation is 'cos'; allowed: elu"):
    blocks.activation("cos")
  with pytest.raises(ValueError, match="norm is 'batch'; allowed: 'group'"):
    blocks.GroupNormSwish("batch").init(jax.random.key(0), normal(1, 4, 4, 3))
