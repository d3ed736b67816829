import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vae_jax.models import decoders, encoders, layers

SIZES = [(28, 28), (31, 47), (64, 96), (255, 129), (256, 256)]
NAMES = ["mlp", "conv", "resnet"]


def count(variables):
  return sum(v.size for v in jax.tree.leaves(variables["params"]))


def shapes(module, shape):
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(module.init_with_output, rngs, jnp.zeros(shape))


def draw(module, shape):
  """Variables to compute with, without compiling the initialisation."""
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
  return count(shapes(layers.Dense(outputs), (1, features))[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_goes_in_and_comes_out(name, size, channels):
  features, _ = shapes(
    getattr(encoders, name)(train=True), (2, *size, channels)
  )
  assert features.ndim == 2 and features.shape[0] == 2
  decoder = getattr(decoders, name)(
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
  features, encoder = shapes(encoders.lecture_mnist(), (1, 28, 28, 1))
  assert features.shape == (1, 3136)
  _, decoder = shapes(
    decoders.lecture_mnist(image_shape=(28, 28), out_channels=1), (1, 2)
  )
  head = head_count(3136, outputs)
  assert count(encoder) + head + count(decoder) == total


@pytest.mark.parametrize("name", ["lecture_celeba", "lecture_celeba_upsample"])
def test_lecture_celeba_parameters(name):
  features, encoder = shapes(encoders.lecture_celeba(), (1, 128, 128, 3))
  assert features.shape == (1, 4096)
  _, decoder = shapes(
    getattr(decoders, name)(image_shape=(128, 128), out_channels=3), (1, 200)
  )
  assert count(encoder) == 93_472 and count(decoder) == 916_803
  assert count(encoder) + head_count(4096, 400) + count(decoder) == 2_649_075


def layer_sizes(module, shape):
  _, variables = shapes(module, shape)
  is_layer = lambda m, _: isinstance(m, (layers.Conv, layers.ConvTranspose))
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
    (encoders.lecture_mnist(), (1, 28, 28, 1), (28, 14, 7, 7)),
    (encoders.lecture_celeba(), (1, 128, 128, 3), (64, 32, 16, 8)),
    (
      decoders.lecture_mnist(image_shape=(28, 28), out_channels=1),
      (1, 2),
      (7, 13, 27, 29),
    ),
    (
      decoders.lecture_celeba(image_shape=(128, 128), out_channels=3),
      (1, 200),
      (17, 33, 65, 129),
    ),
    (
      decoders.lecture_celeba_upsample(image_shape=(128, 128), out_channels=3),
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
  decoder = getattr(decoders, name)(image_shape=size, out_channels=3)
  with pytest.raises(ValueError, match=message):
    shapes(decoder, (1, 2))
  if hasattr(encoders, name):
    with pytest.raises(ValueError, match=message):
      shapes(getattr(encoders, name)(), (1, *size, 3))


SMALL = {
  "mlp": {"hidden": (16,)},
  "conv": {"channels": (4, 8), "dropout": 0.5},
  "resnet": {"channels": (4, 8)},
}


def small(module, name, **kwargs):
  return getattr(module, name)(**SMALL[name], **kwargs)


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
  make = functools.partial(encoders.conv, channels=(4, 8), train=True)
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


@pytest.mark.parametrize("module", [encoders, decoders])
def test_every_name_has_the_common_fields(module):
  names = [n for n in vars(module) if n.startswith("lecture")] + NAMES
  for name in names:
    fields = inspect.signature(getattr(module, name)).parameters
    assert {"train", "dtype", "initializer", "axis_name"} <= set(fields)
    assert issubclass(getattr(module, name), nn.Module)
