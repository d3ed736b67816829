"""Encoders and decoders: sizes, precision, devices, recomputation."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support import tiny
from vae_jax.config import registry
from vae_jax.models import decoders, encoders, layers

SIZES = [(28, 28), (31, 47), (64, 96), (255, 129), (256, 256)]


NAMES = ["mlp", "conv", "resnet"]
ENCODERS = registry.public_values(encoders)
DECODERS = registry.public_values(decoders)


def count(variables):
  return sum(v.size for v in jax.tree.leaves(variables["params"]))


def shapes(module, shape):
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(module.init_with_output, rngs, jnp.zeros(shape))


def draw(module, shape):
  """Returns variables without compiling the initialization."""
  rng = np.random.default_rng(0)
  _, variables = shapes(module, shape)
  params = jax.tree.map(
    lambda v: rng.uniform(-0.3, 0.3, v.shape).astype(v.dtype),
    variables["params"],
  )
  ones = jax.tree.map(
    lambda v: np.ones(v.shape, v.dtype), variables.get("batch_stats", {})
  )
  return {"params": params, "batch_stats": ones}


def head_count(features, outputs):
  return count(shapes(nn.Dense(outputs), (1, features))[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_goes_in_and_comes_out(name, size, channels):
  features, _ = shapes(ENCODERS[name](train=True), (2, *size, channels))
  assert features.ndim == 2 and features.shape[0] == 2
  decoder = DECODERS[name](
    image_shape=size, out_channels=2 * channels, train=True
  )
  x, variables = shapes(decoder, (2, 7))
  assert x.shape == (2, *size, 2 * channels)
  assert x.dtype == jnp.float32
  if name != "mlp":
    # The decoder starts at the size the encoder ends at.
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (7, features.shape[1])


@pytest.mark.parametrize("outputs, total", [(2 * 2, 207_237), (2, 200_963)])
def test_lecture_mnist_parameters(outputs, total):
  features, encoder = shapes(encoders.LectureMnist(), (1, 28, 28, 1))
  assert features.shape == (1, 3136)
  _, decoder = shapes(
    decoders.LectureMnist(image_shape=(28, 28), out_channels=1), (1, 2)
  )
  head = head_count(3136, outputs)
  assert count(encoder) + head + count(decoder) == total


@pytest.mark.parametrize("name", ["lecture_celeba", "lecture_celeba_upsample"])
def test_lecture_celeba_parameters(name):
  features, encoder = shapes(encoders.LectureCeleba(), (1, 128, 128, 3))
  assert features.shape == (1, 4096)
  _, decoder = shapes(
    DECODERS[name](image_shape=(128, 128), out_channels=3), (1, 200)
  )
  assert count(encoder) == 93_472 and count(decoder) == 916_803
  assert count(encoder) + head_count(4096, 400) + count(decoder) == 2_649_075


def layer_sizes(module, shape):
  _, variables = shapes(module, shape)
  is_layer = lambda m, _: isinstance(m, (nn.Conv, layers.ConvTranspose))
  run = functools.partial(
    module.apply, capture_intermediates=is_layer, mutable=["intermediates"]
  )
  _, state = jax.eval_shape(run, variables, jnp.zeros(shape))
  names = sorted(state["intermediates"])
  return [
    state["intermediates"][name]["__call__"][0].shape[1:3] for name in names
  ]


@pytest.mark.parametrize(
  "module, shape, sides",
  [
    (encoders.LectureMnist(), (1, 28, 28, 1), (28, 14, 7, 7)),
    (encoders.LectureCeleba(), (1, 128, 128, 3), (64, 32, 16, 8)),
    (
      decoders.LectureMnist(image_shape=(28, 28), out_channels=1),
      (1, 2),
      (7, 13, 27, 29),
    ),
    (
      decoders.LectureCeleba(image_shape=(128, 128), out_channels=3),
      (1, 200),
      (17, 33, 65, 129),
    ),
    (
      decoders.LectureCelebaUpsample(image_shape=(128, 128), out_channels=3),
      (1, 200),
      (16, 32, 64, 128),
    ),
  ],
)
def test_lecture_sizes(module, shape, sides):
  assert layer_sizes(module, shape) == [(side, side) for side in sides]


@pytest.mark.parametrize(
  "name, size",
  [
    ("lecture_mnist", (32, 32)),
    ("lecture_celeba", (64, 64)),
    ("lecture_celeba_upsample", (128, 120)),
  ],
)
def test_impossible_sizes_are_refused_before_compilation(name, size):
  message = rf"{name} is built for images of .* pixels only, these are "
  message += f"{size[0]}x{size[1]}"
  decoder = DECODERS[name](image_shape=size, out_channels=3)
  with pytest.raises(ValueError, match=message):
    shapes(decoder, (1, 2))
  if name in ENCODERS:
    with pytest.raises(ValueError, match=message):
      shapes(ENCODERS[name](), (1, *size, 3))


SMALL = {
  "mlp": {"hidden": (16,)},
  "conv": {"channels": (4, 8), "dropout": 0.5},
  "resnet": {"channels": (4, 8)},
}


def small(module, name, **kwargs):
  return registry.public_values(module)[name](**SMALL[name], **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_per_image(name):
  x = jax.random.uniform(jax.random.key(0), (4, 9, 11, 3))
  encoder = small(encoders, name)
  variables = draw(encoder, x.shape)
  apply = jax.jit(encoder.apply)
  y = apply(variables, x)
  np.testing.assert_array_equal(y, apply(variables, x))
  alone = apply(variables, x[:1])
  np.testing.assert_allclose(y[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_keeps_parameters_and_outputs_wide(name):
  common = {"dtype": jnp.bfloat16, "initializer": "torch"}
  encoder = small(encoders, name, **common)
  features, variables = shapes(encoder, (2, 9, 11, 3))
  assert features.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32
  kwargs = {"image_shape": (9, 11), "out_channels": 3}
  decoder = small(decoders, name, **kwargs, **common)
  variables = draw(decoder, (2, 5))
  z = jax.random.normal(jax.random.key(2), (2, 5))
  y = jax.jit(decoder.apply)(variables, z)
  assert y.dtype == jnp.float32
  wide = jax.jit(small(decoders, name, **kwargs).apply)(variables, z)
  np.testing.assert_allclose(y, wide, atol=0.03 * np.abs(wide).max())


def test_training_gradients_of_eight_devices_are_those_of_one():
  x = jax.random.uniform(jax.random.key(0), (16, 9, 11, 3))
  make = functools.partial(encoders.Conv, channels=(4, 8), train=True)
  variables = draw(make(), x.shape)

  def grads(axis_name, x):
    def loss(params):
      y, stats = make(axis_name=axis_name).apply(
        {**variables, "params": params}, x, mutable=["batch_stats"]
      )
      return jnp.mean(jnp.square(y - 0.3)), stats

    out = jax.grad(loss, has_aux=True)(variables["params"])
    return out if axis_name is None else jax.lax.pmean(out, axis_name)

  one = jax.jit(functools.partial(grads, None))(x)
  many = jax.pmap(functools.partial(grads, "batch"), axis_name="batch")(
    x.reshape(8, 2, 9, 11, 3)
  )
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
    np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [ENCODERS, DECODERS])
def test_every_network_has_the_common_fields(classes):
  assert set(NAMES) < set(classes) and len(classes) >= 5
  for cls in classes.values():
    fields = inspect.signature(cls).parameters
    assert {"train", "dtype", "initializer", "axis_name"} <= set(fields)
    assert issubclass(cls, nn.Module)


NETWORKS = {
  "mlp": (9, {"hidden": (8, 8), "activation": "gelu"}),
  "conv": (5, {"channels": (2, 2), "dropout": 0.4}),
  "resnet": (3, {"channels": (2,), "depth": 1}),
  "lecture_mnist": (28, {}),
  "lecture_celeba": (128, {}),
  "lecture_celeba_upsample": (128, {}),
}


EVERY = [(classes, n) for classes in (ENCODERS, DECODERS) for n in classes]


def _pair(classes, name):
  """Returns the network without and with `remat`, variables, and an input."""
  side, settings = NETWORKS[name]
  shape = (2, side, side, 1)
  if classes is DECODERS:
    settings = {**settings, "image_shape": (side, side), "out_channels": 1}
    shape = (2, 3)
  pair = [
    classes[name](train=True, remat=remat, **settings)
    for remat in (False, True)
  ]
  rng = np.random.default_rng(0)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  x = rng.uniform(size=shape).astype(np.float32)
  plain, recomputing = (jax.eval_shape(n.init, keys, x) for n in pair)
  assert plain == recomputing
  draw = lambda v: rng.normal(size=v.shape).astype(v.dtype)
  return pair, jax.tree.map(draw, plain), x


def _outputs(net, variables, params, x):
  return net.apply(
    {**variables, "params": params},
    x,
    rngs={"dropout": jax.random.key(2)},
    mutable=["batch_stats"],
  )


@pytest.mark.parametrize("classes, name", EVERY)
def test_remat_saves_memory_of_the_backward_pass(classes, name):
  pair, variables, x = _pair(classes, name)

  def kept(net):
    def backward(params, x):
      return jax.vjp(lambda *a: _outputs(net, variables, *a)[0], params, x)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, variables["params"], x))
    return sum(v.size * v.dtype.itemsize for v in leaves)

  plain, recomputing = map(kept, pair)
  weights = sum(v.nbytes for v in jax.tree.leaves(variables["params"]))
  assert recomputing - weights < 0.85 * (plain - weights)


@pytest.mark.parametrize(
  "classes, name",
  [
    pytest.param(m, n, marks=[pytest.mark.slow] if "lecture" in n else [])
    for m, n in EVERY
  ],
)
def test_remat_changes_neither_outputs_nor_gradients(classes, name):
  pair, variables, x = _pair(classes, name)

  def gradients(net, params, x):
    def loss(params, x):
      y, updated = _outputs(net, variables, params, x)
      return jnp.sum(y**2), (y, updated)

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  @jax.jit
  def both(params, x):
    return [gradients(net, params, x) for net in pair]

  plain, recomputing = both(variables["params"], x)
  scale = max(np.abs(g).max() for g in jax.tree.leaves(plain[0]))
  assert scale > 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * scale),
    recomputing,
    plain,
  )


def test_remat_saves_memory_of_a_train_step():
  # The values that a gelu leaves behind, in few bytes of weights.
  settings = {
    "model__encoder": {"name": "conv", "args": {"channels": (2,)}},
    "model__decoder": {"name": "mlp", "args": {"hidden": (32,) * 10}},
    "model__encoder__args__dropout": 0.5,
    "model__decoder__args__activation": "gelu",
    "train__batch_size": 2048,
    "train__steps_per_call": 2,
    "optim__optimizer__name": "sgd",
    "optim__learning_rate": 1e-4,
  }
  found = []
  for remat in (False, True):
    step, arguments = tiny.compiled_step(
      (4, 4, 1), model__remat=remat, **settings
    )
    after, history, _ = step(*arguments)
    temporary = step.memory_analysis().temp_size_in_bytes
    found.append((temporary, (after.params, after.model_state, history)))
  (plain, computed), (less, again) = found
  assert less < 0.75 * plain
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    computed,
    again,
  )
