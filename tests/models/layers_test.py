import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export

from vae_jax.models import blocks, conv_ops, layers

# (h, w), kernel, strides, padding.
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


def normal(*shape):
  rng = np.random.default_rng(math.prod(shape))
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def close(a, b, tolerance=1e-5):
  """Equal up to rounding, which is relative to the largest entry."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    atol = tolerance * float(jnp.abs(y).max())
    np.testing.assert_allclose(x, y, rtol=0, atol=atol)


def pair(name, geometry, **kwargs):
  _, kernel, strides, padding = geometry
  return tuple(
    getattr(module, name)(5, kernel, strides=strides, padding=padding, **kwargs)
    for module in (layers, nn)
  )


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_flax_in_value_and_two_derivatives(name, geometry):
  ours, flax = pair(name, geometry)
  x = normal(2, *geometry[0], 3)
  shapes = jax.eval_shape(flax.init, jax.random.key(0), x)
  assert shapes == jax.eval_shape(ours.init, jax.random.key(0), x)
  variables = jax.tree.map(lambda v: normal(*v.shape), shapes)

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
  close(run(ours, variables, x), run(flax, variables, x))


def test_third_derivative_equals_flax():
  ours, flax = pair("Conv", GEOMETRIES[1])
  x = normal(1, 9, 7, 2)
  variables = flax.init(jax.random.key(0), x)

  def third(module, x):
    f = lambda x: jnp.sum(jnp.sin(module.apply(variables, x)))
    for _ in range(2):
      f = (lambda g: lambda x: jnp.sum(jnp.square(jax.grad(g)(x))))(f)
    return jax.grad(f)(x)

  close(*(jax.jit(functools.partial(third, m))(x) for m in (ours, flax)))


@pytest.mark.parametrize(
  "window",
  [
    conv_ops.Window((9, 7), (3, 4), (2, 2), ((1, 1), (0, 2))),
    conv_ops.Window((8, 9), (3, 3), (1, 1), ((-1, 2), (1, 1))),
  ],
)
def test_parts_of_a_batch_add_up(window, monkeypatch):
  x, kernel = normal(6, *window.image, 3), normal(*window.kernel, 3, 4)
  g = normal(6, *window.output, 4)

  def everything():
    y, vjp = jax.vjp(lambda x, k: conv_ops.conv(x, k, window), x, kernel)
    return y, vjp(g)

  whole = jax.jit(lambda: everything())()
  monkeypatch.setattr(conv_ops, "_CACHE_BYTES", 5000)
  parts = str(jax.make_jaxpr(everything)())
  assert "scan" in parts
  close(jax.jit(everything)(), whole)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_vmap_and_pmap(name):
  module, flax = pair(name, GEOMETRIES[1])
  x = normal(8, 2, 9, 7, 3)
  variables = flax.init(jax.random.key(0), x[0])

  def grads(module, x):
    loss = lambda v, x: jnp.sum(jnp.square(module.apply(v, x)))
    return jax.grad(loss, (0, 1))(variables, x)

  expected = jax.jit(lambda x: jax.lax.map(functools.partial(grads, flax), x))(
    x
  )
  close(jax.jit(jax.vmap(functools.partial(grads, module)))(x), expected)
  close(jax.pmap(functools.partial(grads, module))(x), expected)


def test_one_exported_program_for_every_platform_and_batch():
  module, flax = pair("ConvTranspose", GEOMETRIES[0])
  x = normal(3, 8, 8, 3)
  variables = flax.init(jax.random.key(0), x)
  (b,) = export.symbolic_shape("b")
  exported = export.export(
    jax.jit(functools.partial(module.apply, variables)),
    platforms=("cpu", "cuda", "tpu"),
  )(jax.ShapeDtypeStruct((b, 8, 8, 3), jnp.float32))
  close(exported.call(x), flax.apply(variables, x))
  assert "stablehlo.convolution" in exported.mlir_module()


def test_cpu_program_has_no_convolution():
  module, _ = pair("Conv", GEOMETRIES[0])
  x = normal(2, 8, 8, 3)
  variables = module.init(jax.random.key(0), x)
  loss = lambda v, x: jnp.sum(jnp.square(module.apply(v, x)))
  text = jax.jit(jax.grad(loss, (0, 1))).lower(variables, x).as_text()
  assert "stablehlo.dot_general" in text
  assert "stablehlo.convolution" not in text


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
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


def test_dense_equals_flax():
  x = normal(4, 6)
  variables = nn.Dense(3).init(jax.random.key(0), x)
  close(layers.Dense(3).init(jax.random.key(0), x), variables)
  close(layers.Dense(3).apply(variables, x), nn.Dense(3).apply(variables, x))


def test_flax_init_is_flax():
  x = normal(1, 8, 8, 3)
  for name in ("Conv", "ConvTranspose"):
    ours, flax = pair(name, GEOMETRIES[0])
    close(ours.init(jax.random.key(1), x), flax.init(jax.random.key(1), x), 0)


@pytest.mark.parametrize(
  "module, fan_in",
  [
    (layers.Dense(256, initializer="torch"), 64),
    (layers.Conv(256, initializer="torch"), 64 * 9),
    # PyTorch counts the outputs here.
    (layers.ConvTranspose(256, initializer="torch"), 256 * 9),
  ],
)
def test_torch_init(module, fan_in):
  x = normal(1, 64) if isinstance(module, layers.Dense) else normal(1, 4, 4, 64)
  params = module.init(jax.random.key(0), x)["params"]
  bound = 1 / math.sqrt(fan_in)
  for name, tolerance in (("kernel", 0.02), ("bias", 0.15)):
    value = np.asarray(params[name])
    assert 0.95 * bound < np.abs(value).max() <= bound
    assert abs(value.std() * math.sqrt(3) / bound - 1) < tolerance


def test_glorot_init():
  x = jnp.zeros((1, 64))
  layer = layers.Dense(256, initializer="glorot")
  params = layer.init(jax.random.key(0), x)["params"]
  bound = np.sqrt(6 / (64 + 256))
  assert 0.99 * bound < jnp.abs(params["kernel"]).max() <= bound
  assert jnp.std(params["kernel"]) == pytest.approx(
    bound / np.sqrt(3), rel=0.02
  )
  assert not params["bias"].any()


def test_wrong_names_say_what_is_allowed():
  x = normal(1, 4, 4, 3)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="initializer is 'he'; allowed: 'flax'"):
    layers.Conv(3, initializer="he").init(key, x)
  with pytest.raises(ValueError, match="padding is 'FULL'; allowed: 'SAME'"):
    layers.Conv(3, padding="FULL").init(key, x)
  with pytest.raises(ValueError, match="activation is 'cos'; allowed: elu"):
    blocks.activation("cos")
  with pytest.raises(ValueError, match="norm is 'batch'; allowed: 'group'"):
    blocks.GroupNormSwish("batch").init(key, x)


def test_halve_and_double():
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  expected = [[2.0, 3.5], [6.5, 8.0]]
  np.testing.assert_allclose(blocks.halve(x)[0, :, :, 0], expected)
  doubled = blocks.double(x)[0, :, :, 0]
  np.testing.assert_allclose(
    doubled, np.asarray(x[0, :, :, 0]).repeat(2, 0).repeat(2, 1)
  )
  assert blocks.halved_sizes((29, 64), 2) == [(29, 64), (15, 32), (8, 16)]


def test_batch_norm_of_eight_devices_is_that_of_one():
  x = normal(16, 4, 4, 3)
  module = blocks.BatchNormAct(nn.relu, train=True)
  variables = module.init(jax.random.key(0), x)

  def step(axis_name, x):
    module = blocks.BatchNormAct(nn.relu, train=True, axis_name=axis_name)
    return module.apply(variables, x, mutable=["batch_stats"])

  y, stats = step(None, x)
  many, many_stats = jax.pmap(
    functools.partial(step, "batch"), axis_name="batch"
  )(x.reshape(8, 2, 4, 4, 3))
  close(many.reshape(y.shape), y, 1e-5)
  for device in range(8):
    close(jax.tree.map(lambda v, d=device: v[d], many_stats), stats, 1e-5)


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


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1])
def test_window_output(stride, pad):
  window = conv_ops.Window(
    (7, 10), (3, 2), (stride, stride), ((pad, 0), (0, pad))
  )
  y = jax.eval_shape(
    lambda x, k: conv_ops.conv(x, k, window),
    jnp.zeros((1, 7, 10, 1)),
    jnp.zeros((3, 2, 1, 1)),
  )
  assert y.shape[1:3] == window.output
  assert window.output == (
    (7 + pad - 3) // stride + 1,
    (10 + pad - 2) // stride + 1,
  )
