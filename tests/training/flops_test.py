"""Counted operations against hand counts."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.support import tiny
from vae_jax.models import conv_ops
from vae_jax.training import flops
from vae_jax.training import step as train_step


def _count(function, *args):
  return flops.count(jax.make_jaxpr(function)(*args).jaxpr)


def test_products_and_loops_are_counted():
  a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
  product = 2 * 3 * 4 * 5
  assert _count(jnp.matmul, a, b) == product
  assert _count(jax.jit(lambda a: a @ b + 1), a) == product
  scan = lambda a: lax.scan(lambda c, _: (c, a @ b), 0, length=7)
  assert _count(scan, a) == 7 * product


def test_convolution_is_counted_once_on_any_platform():
  x, k = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
  window = conv_ops.Window((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1)))
  forward = 2 * 2 * 4 * 4 * 27 * 5
  assert _count(lambda x, k: conv_ops.conv(x, k, window), x, k) == forward
  both = jax.grad(lambda x, k: conv_ops.conv(x, k, window).sum(), (0, 1))
  assert _count(both, x, k) == 3 * forward
  plain = lambda x, k: lax.conv(x.transpose(0, 3, 1, 2), k.T, (1, 1), "SAME")
  assert _count(plain, x, k) == 2 * 2 * 8 * 8 * 27 * 5


@pytest.mark.parametrize("parts", [1, 2])
def test_train_step_of_an_mlp_is_counted_as_by_hand(parts):
  run = tiny.tiny_experiment(tiny.tiny_config("", train__accumulate=parts))
  step = train_step.make_train_steps(run)
  counted = _count(step, *tiny.step_arguments(run))
  # Forward, and gradients by weights and by inputs, less those by pixels.
  layers = [(256, 16), (16, 6), (3, 16), (16, 256)]
  products = sum(3 * 2 * i * o for i, o in layers) - 2 * 256 * 16
  assert counted == 16 // 8 * products
