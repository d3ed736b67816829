"""Convolutions against Flax's own in values, gradients and geometry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export

from tests.support.networks import assert_near, normal, random_variables
from vae_jax.models import conv_ops, layers

GEOMETRIES = [
  ((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
  ((9, 7), (3, 3), (2, 2), "SAME"),
  ((7, 10), (4, 4), (2, 2), "SAME"),
  ((9, 8), (4, 3), (3, 2), "VALID"),
  ((6, 5), (3, 3), (1, 1), "SAME"),
  ((6, 5), (5, 2), (1, 1), ((2, 1), (0, 3))),
  ((7, 9), (2, 2), (3, 3), ((0, 1), (1, 0))),
  ((5, 6), (1, 1), (1, 1), "VALID"),
  ((5, 6), (1, 1), (2, 2), "SAME"),
]


def pair(name, geometry, **kwargs):
  """Returns the layer by `conv_ops`, and Flax's own."""
  _, kernel, strides, padding = geometry
  settings = dict(strides=strides, padding=padding, **kwargs)
  flax = getattr(nn, name)(5, kernel, **settings)
  if name == "ConvTranspose":
    return layers.ConvTranspose(5, kernel, **settings), flax
  ours = lambda: conv_ops.conv_general_dilated
  return flax.clone(conv_general_dilated_cls=ours), flax


each_layer = pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])


@each_layer
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_flax_in_value_and_two_derivatives(name, geometry):
  ours, flax = pair(name, geometry)
  x = normal(2, *geometry[0], 3)
  variables, _ = both = [random_variables(m, x) for m in (ours, flax)]
  assert_near(*both, 0)

  def value(module, variables, x):
    return jnp.sum(jnp.sin(module.apply(variables, x)))

  def penalty(module, variables, x):
    slope = jax.grad(value, argnums=2)(module, variables, x)
    return jnp.sum(jnp.square(slope) * jnp.cos(slope))

  def everything(module, variables, x):
    return (
      module.apply(variables, x),
      jax.grad(functools.partial(value, module), (0, 1))(variables, x),
      jax.grad(functools.partial(penalty, module), (0, 1))(variables, x),
    )

  run = jax.jit(everything, static_argnums=0)
  results = run(ours, variables, x)
  # In float64, because second derivatives of Flax's own lose a digit.
  with jax.enable_x64(True):
    exact = flax.clone(dtype=jnp.float64, param_dtype=jnp.float64)
    wide = jax.tree.map(lambda v: np.float64(v), (variables, x))
    assert_near(results, run(exact, *wide))


def test_third_derivative_equals_flax():
  ours, flax = pair("Conv", GEOMETRIES[1])
  x = normal(1, 9, 7, 2)
  variables = random_variables(flax, x)

  def third(module, x):
    f = lambda x: jnp.sum(jnp.sin(module.apply(variables, x)))
    for _ in range(2):
      f = (lambda g: lambda x: jnp.sum(jnp.square(jax.grad(g)(x))))(f)
    return jax.grad(f)(x)

  assert_near(*(jax.jit(functools.partial(third, m))(x) for m in (ours, flax)))


@pytest.mark.parametrize(
  "window",
  [
    conv_ops.Window((9, 7), (3, 4), (2, 2), ((1, 1), (0, 2))),
    conv_ops.Window((8, 9), (3, 3), (1, 1), ((-1, 2), (1, 1))),
  ],
)
def test_micro_batches_add_up_to_the_batch(window):
  # So many channels that the rows of all images exceed the cache.
  x, kernel = normal(6, *window.image, 1250), normal(*window.kernel, 1250, 2)
  g = normal(6, *window.output, 2)

  def everything(x, g):
    y, vjp = jax.vjp(lambda x, k: conv_ops.conv(x, k, window), x, kernel)
    return y, vjp(g)

  assert "scan" in str(jax.make_jaxpr(everything)(x, g))
  assert "scan" not in str(jax.make_jaxpr(everything)(x[:1], g[:1]))
  one = jax.jit(everything)
  images = [one(x[i : i + 1], g[i : i + 1]) for i in range(6)]
  y = jnp.concatenate([y for y, _ in images])
  dx = jnp.concatenate([dx for _, (dx, _) in images])
  dk = sum(dk for _, (_, dk) in images)
  assert_near(jax.jit(everything)(x, g), (y, (dx, dk)))


@each_layer
def test_vmap_and_pmap(name):
  module, flax = pair(name, GEOMETRIES[1])
  x = normal(8, 2, 9, 7, 3)
  variables = random_variables(flax, x[0])

  def grads(module, x):
    loss = lambda v, x: jnp.sum(jnp.square(module.apply(v, x)))
    return jax.grad(loss, (0, 1))(variables, x)

  ours, theirs = (functools.partial(grads, m) for m in (module, flax))
  expected = jax.jit(functools.partial(jax.lax.map, theirs))(x)
  assert_near(jax.jit(jax.vmap(ours))(x), expected)
  assert_near(jax.pmap(ours)(x), expected)


def test_one_exported_program_for_every_platform_and_batch():
  module, flax = pair("ConvTranspose", GEOMETRIES[0])
  x = normal(3, 8, 8, 3)
  variables = random_variables(flax, x)
  (b,) = export.symbolic_shape("b")
  run = jax.jit(functools.partial(module.apply, variables))
  exporter = export.export(run, platforms=("cpu", "cuda", "tpu"))
  exported = exporter(jax.ShapeDtypeStruct((b, 8, 8, 3), jnp.float32))
  assert_near(exported.call(x), flax.apply(variables, x))
  assert "stablehlo.convolution" in exported.mlir_module()


def test_cpu_program_has_no_convolution():
  module, _ = pair("Conv", GEOMETRIES[0])
  x = normal(2, 8, 8, 3)
  variables = random_variables(module, x)
  loss = lambda v, x: jnp.sum(jnp.square(module.apply(v, x)))
  text = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x).as_text()
  assert "stablehlo.dot_general" in text
  assert "stablehlo.convolution" not in text


@each_layer
def test_bfloat16(name):
  ours, flax = pair(name, GEOMETRIES[1], dtype=jnp.bfloat16)
  x = normal(2, 9, 7, 3)
  variables = ours.init(jax.random.key(0), x)
  assert variables["params"]["kernel"].dtype == jnp.float32
  y = ours.apply(variables, x)
  assert y.dtype == jnp.bfloat16
  exact = pair(name, GEOMETRIES[1])[1].apply(variables, x)
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)
  loss = lambda v: jnp.sum(ours.apply(v, x).astype(jnp.float32))
  grads = jax.grad(loss)(variables)["params"]
  assert grads["kernel"].dtype == jnp.float32


def test_flax_init_is_flax():
  x = normal(1, 8, 8, 3)
  for name in ("Conv", "ConvTranspose"):
    ours, flax = pair(name, GEOMETRIES[0])
    assert_near(*(m.init(jax.random.key(1), x) for m in (ours, flax)), 0)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
def test_window_output(stride, pad):
  pads = (pad, 0), (0, pad)
  window = conv_ops.Window((7, 10), (3, 2), (stride, stride), pads)
  conv = functools.partial(conv_ops.conv, window=window)
  y = jax.eval_shape(conv, normal(1, 7, 10, 1), normal(3, 2, 1, 1))
  expected = (7 + pad - 3) // stride + 1, (10 + pad - 2) // stride + 1
  assert y.shape[1:3] == window.output == expected
