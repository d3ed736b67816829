"""Encoders and decoders: sizes, precision, devices, recomputation."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support import tiny
from tests.support.networks import random_like, random_variables
from vae_jax.config import registry
from vae_jax.models import decoders, encoders, layers

ENCODERS = registry.public_values(encoders)
DECODERS = registry.public_values(decoders)
EVERY = [(classes, n) for classes in (ENCODERS, DECODERS) for n in classes]
SMALL = {
  "mlp": {"hidden": (16,)},
  "conv": {"channels": (4, 8), "dropout": 0.5},
  "resnet": {"channels": (4, 8)},
}
# Shapes of images, and numbers of latents.
LECTURES = {
  "lecture_mnist": ((28, 28, 1), 2),
  "lecture_celeba": ((128, 128, 3), 200),
  "lecture_celeba_upsample": ((128, 128, 3), 200),
}


def make(classes, name, image, latents=7, **settings):
  """Returns a network for images [h w c], and the shape of two inputs."""
  if classes is ENCODERS:
    return ENCODERS[name](**settings), (2, *image)
  settings |= {"image_shape": image[:2], "out_channels": image[2]}
  return DECODERS[name](**settings), (2, latents)


def count(variables):
  return sum(v.size for v in jax.tree.leaves(variables["params"]))


def shapes(module, shape):
  rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return jax.eval_shape(module.init_with_output, rngs, jnp.zeros(shape))


def draw(module, shape):
  variables = random_variables(module, jnp.zeros(shape), scale=0.2)
  ones = jax.tree.map(jnp.ones_like, variables.get("batch_stats", {}))
  return {"params": variables["params"], "batch_stats": ones}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
  "size", [(28, 28), (31, 47), (64, 96), (255, 129), (256, 256)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_goes_in_and_comes_out(name, size, channels):
  network = make(ENCODERS, name, (*size, channels), train=True)
  features, _ = shapes(*network)
  assert features.ndim == 2 and features.shape[0] == 2
  network = make(DECODERS, name, (*size, 2 * channels), train=True)
  x, variables = shapes(*network)
  assert x.shape == (2, *size, 2 * channels)
  assert x.dtype == jnp.float32
  if name != "mlp":
    # The decoder starts at the size the encoder ends at.
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (7, features.shape[1])


@pytest.mark.parametrize(
  "name, outputs, width, total",
  [
    ("lecture_mnist", 2 * 2, 3136, 207_237),
    ("lecture_mnist", 2, 3136, 200_963),
    ("lecture_celeba", 400, 4096, 2_649_075),
    ("lecture_celeba_upsample", 400, 4096, 2_649_075),
  ],
)
def test_lecture_parameters(name, outputs, width, total):
  encoder = make(ENCODERS, name.removesuffix("_upsample"), *LECTURES[name])
  features, encoder = shapes(*encoder)
  assert features.shape == (2, width)
  _, decoder = shapes(*make(DECODERS, name, *LECTURES[name]))
  if name != "lecture_mnist":
    assert count(encoder) == 93_472 and count(decoder) == 916_803
  _, head = shapes(nn.Dense(outputs), features.shape)
  assert sum(map(count, (encoder, head, decoder))) == total


@pytest.mark.parametrize(
  "classes, name, sides",
  [
    (ENCODERS, "lecture_mnist", (28, 14, 7, 7)),
    (ENCODERS, "lecture_celeba", (64, 32, 16, 8)),
    (DECODERS, "lecture_mnist", (7, 13, 27, 29)),
    (DECODERS, "lecture_celeba", (17, 33, 65, 129)),
    (DECODERS, "lecture_celeba_upsample", (16, 32, 64, 128)),
  ],
)
def test_lecture_sizes(classes, name, sides):
  module, shape = make(classes, name, *LECTURES[name])
  _, variables = shapes(module, shape)
  is_layer = lambda m, _: isinstance(m, (nn.Conv, layers.ConvTranspose))
  run = functools.partial(
    module.apply, capture_intermediates=is_layer, mutable=["intermediates"]
  )
  _, state = jax.eval_shape(run, variables, jnp.zeros(shape))
  outputs = [
    v["__call__"][0] for _, v in sorted(state["intermediates"].items())
  ]
  assert [v.shape[1:3] for v in outputs] == [(side, side) for side in sides]


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
  for classes in (ENCODERS, DECODERS):
    if name in classes:
      with pytest.raises(ValueError, match=message):
        shapes(*make(classes, name, (*size, 3)))


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_is_deterministic_and_per_image(name):
  x = jax.random.uniform(jax.random.key(0), (4, 9, 11, 3))
  encoder = ENCODERS[name](**SMALL[name])
  variables = draw(encoder, x.shape)
  apply = jax.jit(encoder.apply)
  y = apply(variables, x)
  np.testing.assert_array_equal(y, apply(variables, x))
  alone = apply(variables, x[:1])
  np.testing.assert_allclose(y[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_keeps_parameters_and_outputs_wide(name):
  settings = SMALL[name] | {"dtype": jnp.bfloat16, "initializer": "torch"}
  features, variables = shapes(*make(ENCODERS, name, (9, 11, 3), **settings))
  assert features.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32
  decoder, shape = make(DECODERS, name, (9, 11, 3), **settings)
  variables = draw(decoder, shape)
  z = jax.random.normal(jax.random.key(2), shape)
  y = jax.jit(decoder.apply)(variables, z)
  assert y.dtype == jnp.float32
  wide = jax.jit(decoder.clone(dtype=jnp.float32).apply)(variables, z)
  np.testing.assert_allclose(y, wide, atol=0.03 * np.abs(wide).max())


def test_training_gradients_of_eight_devices_are_those_of_one():
  x = jax.random.uniform(jax.random.key(0), (16, 9, 11, 3))
  make = functools.partial(encoders.Conv, channels=(4, 8), train=True)
  variables = draw(make(), x.shape)

  def grads(axis_name, x):
    def loss(params):
      tree = {**variables, "params": params}
      module = make(axis_name=axis_name)
      y, stats = module.apply(tree, x, mutable=["batch_stats"])
      return jnp.mean(jnp.square(y - 0.3)), stats

    out = jax.grad(loss, has_aux=True)(variables["params"])
    return out if axis_name is None else jax.lax.pmean(out, axis_name)

  one = jax.jit(functools.partial(grads, None))(x)
  many = jax.pmap(functools.partial(grads, "batch"), axis_name="batch")
  many = many(x.reshape(8, 2, 9, 11, 3))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
    np.testing.assert_allclose(a, b[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [ENCODERS, DECODERS])
def test_every_network_has_the_common_fields(classes):
  assert set(SMALL) < set(classes) and len(classes) >= 5
  for cls in classes.values():
    fields = inspect.signature(cls).parameters
    assert {"train", "dtype", "initializer", "axis_name"} <= set(fields)
    assert issubclass(cls, nn.Module)


NETWORKS = {
  "mlp": (9, {"hidden": (8, 8), "activation": "gelu"}),
  "conv": (5, {"channels": (2, 2), "dropout": 0.4}),
  "resnet": (3, {"channels": (2,), "depth": 1}),
  **{name: (image[0], {}) for name, (image, _) in LECTURES.items()},
}


def _pair(classes, name):
  """Returns the network without and with `remat`, variables, and an input."""
  side, settings = NETWORKS[name]
  pair = [
    make(classes, name, (side, side, 1), 3, train=True, remat=remat, **settings)
    for remat in (False, True)
  ]
  shape = pair[0][1]
  plain, recomputing = (shapes(*network)[1] for network in pair)
  assert plain == recomputing
  x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
  return [net for net, _ in pair], random_like(plain), x


def _outputs(net, variables, params, x):
  variables = {**variables, "params": params}
  rngs = {"dropout": jax.random.key(2)}
  return net.apply(variables, x, rngs=rngs, mutable=["batch_stats"])


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
  close = functools.partial(
    np.testing.assert_allclose, rtol=1e-3, atol=1e-4 * scale
  )
  jax.tree.map(close, recomputing, plain)


def test_remat_saves_memory_of_a_train_step():
  # The values that a gelu leaves behind, in few bytes of weights.
  settings = {
    "model__encoder": {"name": "conv", "args": {"channels": (2,)}},
    "model__decoder": {"name": "mlp", "args": {"hidden": (32,) * 8}},
    "model__encoder__args__dropout": 0.5,
    "model__decoder__args__activation": "gelu",
    "train__batch_size": 2048,
    "train__steps_per_call": 2,
    "optim__optimizer__name": "sgd",
    "optim__learning_rate": 1e-4,
  }
  found = []
  for remat in (False, True):
    settings["model__remat"] = remat
    step, arguments = tiny.compiled_step((4, 4, 1), **settings)
    after, history, _ = step(*arguments)
    temporary = step.memory_analysis().temp_size_in_bytes
    found.append((temporary, (after.params, after.model_state, history)))
  (plain, computed), (less, again) = found
  assert less < 0.75 * plain
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(close, computed, again)
