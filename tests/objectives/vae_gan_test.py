"""The VAE/GAN: three players, each with the gradient of its own term."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax import config as config_lib
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.vae_gan import vae_gan
from vae_jax.training import build

GAMMA = 0.7
OBJECTIVE = functools.partial(vae_gan, gamma=GAMMA)


@pytest.fixture(scope="module")
def game():
  """Returns parameters and a batch."""
  params = linear.players_params(linear.PIXEL_CRITIC, linear.SHAPE)
  return params, linear.batch_of(8)


def _separate(vae, batch):
  """The terms of the paper one by one, without any routing."""
  terms = elbo(vae, batch)
  codes = (vae.encode(batch.image), vae.prior())
  made = [vae.decode(v.sample(batch.key)).mean for v in codes]
  real, seen = vae.auxiliary(batch.image / 255.0)
  (fake, seen_again), (dreamt, _) = (vae.auxiliary(x) for x in made)
  # -log(1 / (1 + e^-l)) and -log(1 - 1 / (1 + e^-l)), written out.
  true = lambda logit: jnp.log(1 + jnp.exp(-logit))  # noqa: E731
  false = lambda logit: jnp.log(1 + jnp.exp(logit))  # noqa: E731
  right = 2.0 * (real > 0) + (fake < 0) + (dreamt < 0)
  values = {
    "rate": terms.rate,
    "distortion": terms.distortion,
    "feature_distance": ((seen - seen_again) ** 2).sum(1) / 2,
    "decoder_adversarial_loss": true(fake) + true(dreamt),
    "critic_loss": true(real) + false(fake) + false(dreamt),
    "critic_accuracy": right / 4,
  }
  return {k: v.mean() for k, v in values.items()}, values


@pytest.fixture(scope="module")
def expected(game):
  """Returns the gradients of the values for all three players, and these."""
  params, batch = game
  terms = lambda params: linear.run(
    _separate, linear.PIXEL_PLAYERS, params, batch
  )
  return linear.jit(jax.jacrev(terms, has_aux=True))(params)


def test_terms_equal_the_paper_s_one_by_one(game, expected):
  _, values = expected
  terms, _ = linear.terms_and_slopes(OBJECTIVE, *game, linear.PIXEL_PLAYERS)
  terms = terms.named()
  for name, value in values.items():
    np.testing.assert_allclose(terms[name], value, rtol=2e-4, err_msg=name)
  total = (1 + GAMMA) * values["feature_distance"]
  for name in ("rate", "decoder_adversarial_loss", "critic_loss"):
    total += values[name]
  np.testing.assert_allclose(terms["loss"], total, rtol=1e-4)


def test_each_player_has_the_gradient_of_its_own_term(game, expected):
  of, _ = expected
  distance, adversary = of["feature_distance"], of["decoder_adversarial_loss"]
  rate, critic = of["rate"]["posterior"], of["critic_loss"]
  # Whatever could leak is there to leak.
  leaks = [
    term[player]
    for term in (distance, adversary, critic)
    for player in ("posterior", "decoder", "auxiliary")
  ]
  for leak in (*leaks, rate):
    assert optax.tree.norm(leak) > 1e-3
  own = {
    "posterior": jax.tree.map(jnp.add, rate, distance["posterior"]),
    "decoder": jax.tree.map(
      lambda d, a: GAMMA * d + a, distance["decoder"], adversary["decoder"]
    ),
    "auxiliary": critic["auxiliary"],
  }
  _, gradient = linear.terms_and_slopes(OBJECTIVE, *game, linear.PIXEL_PLAYERS)
  linear.assert_close(gradient, own)


def test_the_declared_critic_fits_the_loss():
  c = config_lib.default()
  c.data.image_shape = (16, 16, 3)
  c.objective.name = "vae_gan"
  c.objective.auxiliary.args.channels = (4, 8)
  c.objective.auxiliary.args.feature_layer = 2
  vae = build.model(c, (16, 16, 3), train=False)
  params = jax.eval_shape(lambda: build.init_variables(c, (16, 16, 3)))
  batch = linear.batch_of(np.zeros((2, 16, 16, 3)))

  def values(variables):
    loss = lambda v, b: tuple(jax.tree.leaves(OBJECTIVE(v, b)))
    params, stats = variables["params"], variables["batch_stats"]
    return linear.run(loss, vae, params, batch, batch_stats=stats)

  assert {v.shape for v in jax.eval_shape(values, params)} == {(2,)}
