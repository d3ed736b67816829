"""Muon against a singular value decomposition and optax's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from vae_jax import config as config_lib
from vae_jax.training import muon, optim

RNG = np.random.RandomState(0)


@pytest.mark.parametrize("shape", [(36, 6), (6, 36), (8, 8)])
def test_singular_values_become_one_and_vectors_stay(shape):
  random = np.random.RandomState(0)
  u, s, vt = np.linalg.svd(random.randn(*shape), full_matrices=False)
  # The weakest direction is a hundredth of the strongest; float32 would lose
  # more of its singular value than is allowed below.
  levels = np.geomspace(1, 0.01, len(s))
  with jax.enable_x64(True):
    result = np.asarray(muon.orthogonal(jnp.asarray((u * levels) @ vt)))
  assert result.dtype == np.float64
  rotated = u.T @ result @ vt.T
  np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-4)
  # The iteration on each singular value alone.
  x = levels / np.linalg.norm(levels)
  for _ in range(5):
    x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
  np.testing.assert_allclose(np.diag(rotated), x, rtol=1e-4)
  assert 0.6 < x.min() and x.max() < 1.3


def test_the_direction_of_zeros_is_zero():
  assert not np.asarray(muon.orthogonal(jnp.zeros((3, 4)))).any()


def test_directions_are_those_of_optax():
  params = {"kernel": jnp.zeros((3, 3, 4, 6)), "dense": jnp.zeros((5, 20))}
  numbers = {
    "kernel": contrib.MuonDimensionNumbers((0, 1, 2), (3,)),
    "dense": contrib.MuonDimensionNumbers(0, 1),
  }
  ours = muon.scale_by_muon()
  theirs = contrib.scale_by_muon(weight_dimension_numbers=numbers)
  a, b = ours.init(params), theirs.init(params)
  draw = lambda p: jnp.asarray(RNG.randn(*p.shape), jnp.float32)
  first, second = (jax.tree.map(draw, params) for _ in range(2))
  made, a = ours.update(first, a)
  wanted, _ = theirs.update(first, b)
  np.testing.assert_allclose(made["kernel"], wanted["kernel"], atol=1e-4)
  # A matrix 5 x 20 is scaled by 2.
  np.testing.assert_allclose(made["dense"], 2 * wanted["dense"], atol=1e-4)
  made, _ = ours.update(second, a)
  mixed = 0.95**2 * first["dense"] + 1.95 * second["dense"]
  wanted = 2 * muon.orthogonal(mixed)
  np.testing.assert_allclose(made["dense"], wanted, atol=1e-5)


def test_other_weights_have_adam():
  c = config_lib.default()
  c.optim.optimizer.name = "muon"
  c.optim.learning_rate = 1e-2
  chosen = optim.optimizer(c, 100)
  gradients = {
    "bias": jnp.array([1.0, -2.0, 3.0]),
    "pseudo": jnp.array([[3.0, -4.0], [1.0, -1.0]]),
    "kernel": jnp.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]),
  }
  params = jax.tree.map(jnp.zeros_like, gradients)
  update, _ = chosen.update(gradients, chosen.init(params), params)
  # Adam's first step is the sign, here at a fifth of the rate; Muon's goes
  # down, and equally far in both directions though they differ.
  for name in ("bias", "pseudo"):
    np.testing.assert_allclose(
      update[name], -2e-3 * np.sign(gradients[name]), rtol=1e-4
    )
  made = np.asarray(update["kernel"])
  wanted = -1e-2 * np.sqrt(1.5) * np.eye(2, 3)
  np.testing.assert_allclose(made, wanted, atol=0.5e-2)
  assert np.argmin(made) in (0, 4) and (made[wanted == 0] == 0).all()


def test_muon_minimizes_a_square():
  target = jnp.asarray(RNG.randn(4, 3), jnp.float32)
  chosen = muon.muon(optax.linear_schedule(0.3, 0.0, 100))
  params = {"kernel": jnp.zeros((4, 3))}
  state = chosen.init(params)
  loss = lambda p: jnp.sum((p["kernel"] - target) ** 2)
  for _ in range(100):
    update, state = chosen.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, update)
  assert loss(params) < 1e-2 * jnp.sum(target**2)
