"""Recomputed activations: less memory, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import tiny
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.models import decoders, encoders
from vae_jax.training import build

NETWORKS = {
  "mlp": (9, {"hidden": (8, 8), "activation": "gelu"}),
  "conv": (5, {"channels": (2, 2), "dropout": 0.4}),
  "resnet": (3, {"channels": (2,), "depth": 1}),
  "lecture_mnist": (28, {}),
  "lecture_celeba": (128, {}),
  "lecture_celeba_upsample": (128, {}),
}
EVERY = [(encoders, n) for n in NETWORKS if hasattr(encoders, n)]
EVERY += [(decoders, n) for n in NETWORKS]


def _pair(module, name):
  """Returns the network without and with `remat`, variables, and an input."""
  side, settings = NETWORKS[name]
  shape = (2, side, side, 1)
  if module is decoders:
    settings = {**settings, "image_shape": (side, side), "out_channels": 1}
    shape = (2, 3)
  pair = [
    getattr(module, name)(train=True, remat=remat, **settings)
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


@pytest.mark.parametrize("module, name", EVERY)
def test_less_is_kept_for_the_backward_pass(module, name):
  pair, variables, x = _pair(module, name)

  def kept(net):
    def backward(params, x):
      return jax.vjp(lambda *a: _outputs(net, variables, *a)[0], params, x)[1]

    leaves = jax.tree.leaves(jax.eval_shape(backward, variables["params"], x))
    return sum(v.size * v.dtype.itemsize for v in leaves)

  plain, recomputing = map(kept, pair)
  weights = sum(v.nbytes for v in jax.tree.leaves(variables["params"]))
  assert recomputing - weights < 0.85 * (plain - weights)


@pytest.mark.parametrize(
  "module, name",
  [
    pytest.param(m, n, marks=[pytest.mark.slow] if "lecture" in n else [])
    for m, n in EVERY
  ],
)
def test_same_outputs_and_gradients(module, name):
  pair, variables, x = _pair(module, name)

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


def test_a_train_step_needs_less_memory_and_computes_the_same():
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


def test_networks_that_cannot_recompute_are_named(monkeypatch, tmp_path):
  (tmp_path / "plain_nets.py").write_text(
    "from flax import linen as nn\n\n\n"
    "class Net(nn.Module):\n"
    "  def __call__(self, x):\n"
    "    return x\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  c = tiny_config("", model__remat=True)
  for node in (c.model.encoder, c.model.decoder):
    node.name, node.args = "plain_nets.Net", {}
  with pytest.raises(
    config_lib.ConfigError, match="config.model.remat is True"
  ):
    build.model(c, (16, 16, 1), train=True)
  c.model.remat = False
  build.model(c, (16, 16, 1), train=True)
