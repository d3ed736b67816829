"""FactorVAE: permutations, values by hand, and the gradient of each player."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.support import linear_gaussian_vae as linear
from vae_jax.models import critics
from vae_jax.objectives import factor_vae
from vae_jax.objectives.elbo import elbo

FACTOR = functools.partial(factor_vae.factor_vae, gamma=3.0)


def _play(params, batch):
  """Returns the terms by name, and the gradient of the mean loss."""
  terms, slopes = linear.terms_and_slopes(FACTOR, params, batch, linear.PLAYERS)
  return terms.named(), slopes


def test_columns_keep_their_values_and_rows_do_not():
  values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
  noise = np.random.default_rng(1).uniform(size=(50, 4)).astype(np.float32)
  rows = np.arange(50) % 3 > 0
  out = factor_vae.permute_columns(*map(jnp.asarray, (values, noise, rows)))
  out = np.asarray(out)
  np.testing.assert_array_equal(out[~rows], values[~rows])
  a, b = (np.sort(v[rows], axis=0) for v in (out, values))
  np.testing.assert_array_equal(a, b)
  # Shuffling within rows, or all columns alike, would leave rows together.
  origin = np.argmax(out[:, None] == values[None], axis=1)
  together = (origin == origin[:, :1]).all(axis=1)
  assert together[rows].mean() < 0.1
  assert (origin[rows] == np.arange(50)[rows, None]).mean() < 0.2


def test_all_permutations_of_all_columns_have_the_same_probability():
  noise = jax.random.uniform(jax.random.key(0), (6000, 3, 2))
  values = jnp.tile(jnp.arange(3.0)[:, None], 2)
  permute = jax.vmap(factor_vae.permute_columns, (None, 0, None))
  out = np.asarray(permute(values, noise, jnp.ones(3, bool))).astype(int)
  # [2 3 6000] -> the number of each column's permutation.
  left, right = (np.ravel_multi_index(v, (3, 3, 3)) for v in out.T)
  _, counts = np.unique(27 * left + right, return_counts=True)
  assert len(counts) == 36
  expected = 6000 / 36
  assert ((counts - expected) ** 2 / expected).sum() < 75  # 1 in 10,000


def test_terms_equal_loops_over_numbers():
  params = linear.players_params()
  mask = np.isin(np.arange(16), [0, 1, 3, 4, 5])
  seen = set()
  for seed in range(6):
    batch = linear.batch_of(16, seed=seed, mask=mask)
    terms, _ = _play(params, batch)
    z = linear.draw_of(params, batch)
    logit = linear.logit_of(params, z)
    np.testing.assert_allclose(terms["total_correlation"], logit, rtol=1e-4)
    # Five count: three show the critic q(z), two the permuted columns.
    joint, (a, b) = z[[0, 1, 3]], z[[4, 5]]
    choices = []
    for fake in ([a, b], [[a[0], b[1]], [b[0], a[1]]]):
      real = linear.logit_of(params, joint)
      made = linear.logit_of(params, np.array(fake))
      loss = (np.logaddexp(0, -real).mean() + np.logaddexp(0, made).mean()) / 2
      right = ((real > 0).mean() + (made < 0).mean()) / 2
      choices.append((loss, right))
    loss = np.asarray(terms["critic_loss"])[mask].mean()
    which = int(np.argmin([abs(loss - c) for c, _ in choices]))
    seen.add(which)
    np.testing.assert_allclose(loss, choices[which][0], rtol=1e-4)
    right = np.asarray(terms["critic_accuracy"])[mask].mean()
    np.testing.assert_allclose(right, choices[which][1], rtol=1e-5)
    expected = terms["neg_elbo"] + terms["critic_loss"] + 3 * logit
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-4, atol=1e-4)
  assert seen == {0, 1}


def _factor_terms(vae, batch):
  """Without any routing; a second half of one has one permutation."""
  terms = elbo(vae, batch)
  (z,) = vae.encode(batch.image).sample(batch.key)
  logit = vae.auxiliary(z)
  entropy = jnp.mean(jax.nn.softplus(-logit[:2])) + jax.nn.softplus(logit[2])
  return jnp.mean((terms.loss + 3 * logit)[:3]), entropy / 2


def test_each_player_has_the_gradient_of_its_own_term():
  batch = linear.batch_of(16, mask=np.arange(16) < 3)
  linear.check_players(FACTOR, _factor_terms, linear.players_params(), batch)


def test_one_example_has_no_critic_loss():
  params, batch = linear.players_params(), linear.batch_of(16)
  whole, _ = _play(params, batch)
  one, gradient = _play(params, linear.batch_of(1))
  linear.assert_finite((one, gradient))
  for name in ("distortion", "rate", "total_correlation"):
    np.testing.assert_allclose(one[name], whole[name][:1], rtol=1e-5)
  assert one["critic_loss"] == 0 == one["critic_accuracy"]


def test_the_critic_finds_a_known_total_correlation():
  correlation = 0.8
  critic = critics.LatentCritic(hidden=(32, 32))
  vae = linear.PLAYERS.clone(auxiliary=critic)
  params = linear.players_params(critic)
  # The first two pixels are the code, 40 gray levels to a unit.
  kernel = np.zeros((6, 4), np.float32)
  kernel[0, 0] = kernel[1, 1] = 255 / 40
  bias = np.array([-128 / 40, -128 / 40, -6, -6], np.float32)
  head = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
  params["posterior"] = {"Dense_0": head}

  def draw(key, count):
    a, b = jax.random.normal(key, (2, count))
    b = correlation * a + math.sqrt(1 - correlation**2) * b
    code = jnp.stack([a, b] + [jnp.zeros(count)] * 4, axis=1)
    image = jnp.clip(jnp.round(128 + 40 * code), 0, 255)
    batch = linear.batch_of(image.reshape(count, *linear.SHAPE))
    return batch.replace(key=jax.random.split(key, count))

  steps = 400
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps))

  def loss(auxiliary, key):
    tree = {**params, "auxiliary": auxiliary}
    terms = linear.terms_of(FACTOR, tree, draw(key, 256), vae=vae)
    return terms.loss.mean(), terms.extras["total_correlation"].mean()

  def step(carry, key):
    auxiliary, state = carry
    gradient, estimate = jax.grad(loss, has_aux=True)(auxiliary, key)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(auxiliary, updates), state), estimate

  keys = jax.random.split(jax.random.key(0), steps)
  carry = params["auxiliary"], optimizer.init(params["auxiliary"])
  _, estimates = jax.lax.scan(step, carry, keys)
  # Of new examples each; the critic hardly changes any more.
  estimate = estimates[-80:].mean()
  # The posterior's own variance, e^-6, hardly weakens the correlation.
  expected = -0.5 * math.log(1 - correlation**2)
  assert abs(estimate - expected) < 0.06
