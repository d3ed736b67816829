"""Layers by value, and their named initializers by distribution."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.networks import normal, random_variables
from vae_jax.models import layers


class Layer(nn.Module):
  """A function of `layers` as a module."""

  function: str
  features: int
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x):
    apply = getattr(layers, self.function)
    return apply(x, self.features, initializer=self.initializer)


def test_dense_is_an_affine_map_with_named_parameters():
  x, module = normal(4, 6), Layer("dense", 3)
  variables = random_variables(module, x)
  layer = jax.tree.map(np.asarray, variables["params"]["Dense_0"])
  expected = np.asarray(x) @ layer["kernel"] + layer["bias"]
  np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5)


def test_conv_is_that_of_flax_in_value_and_both_gradients():
  x, module = normal(2, 9, 8, 3), Layer("conv", 5)
  variables = random_variables(module, x)

  def theirs(variables, x):
    layer = {"params": variables["params"]["Conv_0"]}
    return nn.Conv(5, (3, 3)).apply(layer, x)

  @functools.partial(jax.jit, static_argnums=0)
  def run(apply):
    loss = lambda variables, x: jnp.sum(jnp.sin(apply(variables, x)))
    return apply(variables, x), jax.grad(loss, (0, 1))(variables, x)

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, run(module.apply), run(theirs))


@pytest.mark.parametrize(
  "module, fan_in",
  [
    (Layer("dense", 256, "torch"), 64),
    (Layer("conv", 256, "torch"), 64 * 9),
    # PyTorch counts the outputs here.
    (layers.ConvTranspose(256, initializer="torch"), 256 * 9),
  ],
)
def test_torch_initializer_is_uniform_by_fan_in(module, fan_in):
  dense = getattr(module, "function", "") == "dense"
  x = jnp.ones((1, 64) if dense else (1, 4, 4, 64))
  params = module.init(jax.random.key(0), x)["params"]
  (params,) = [params] if "kernel" in params else params.values()
  bound = 1 / math.sqrt(fan_in)
  for name, tolerance in (("kernel", 0.02), ("bias", 0.15)):
    value = np.asarray(params[name])
    assert 0.95 * bound < np.abs(value).max() <= bound
    assert abs(value.std() * math.sqrt(3) / bound - 1) < tolerance


def test_glorot_initializer_is_uniform_by_both_sides():
  x = jnp.zeros((1, 64))
  variables = Layer("dense", 256, "glorot").init(jax.random.key(0), x)
  params = variables["params"]["Dense_0"]
  bound = np.sqrt(6 / (64 + 256))
  assert 0.99 * bound < jnp.abs(params["kernel"]).max() <= bound
  deviation = pytest.approx(bound / np.sqrt(3), rel=0.02)
  assert jnp.std(params["kernel"]) == deviation
  assert not params["bias"].any()


def test_unknown_names_are_refused():
  x = jnp.ones((1, 4, 4, 3))
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="initializer is 'he'; allowed: 'flax'"):
    Layer("conv", 3, "he").init(key, x)
  with pytest.raises(ValueError, match="padding is 'FULL'; allowed: 'SAME'"):
    layers.ConvTranspose(3, padding="FULL").init(key, x)
