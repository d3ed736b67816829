"""The VAE/GAN: three players, each with the gradient of its own term."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from tests.support.linear_gaussian_vae import (
  SHAPE,
  assert_close,
  batch_of,
  images_of,
  jit,
  params_with,
  run,
  terms_and_slopes,
  with_critic,
)
from vae_jax import config as config_lib
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.vae_gan import vae_gan
from vae_jax.training import build

GAMMA = 0.7
OBJECTIVE = functools.partial(vae_gan, gamma=GAMMA)


class _Critic(nn.Module):
  """Returns a logit and features, as `ImageCritic`, and compiles faster."""

  @nn.compact
  def __call__(self, x):
    features = nn.Dense(5)(x.reshape(x.shape[0], -1))
    return nn.Dense(1)(jnp.tanh(features))[:, 0], features


CRITIC = _Critic()
VAE = with_critic(CRITIC, "images")


def _params():
  return params_with(CRITIC, jnp.zeros((1, *SHAPE)))


def _batch():
  return batch_of(images_of(8))


def _play(params, batch, devices=1):
  """Returns the terms by name, and the gradient of the mean loss."""
  terms, slopes = terms_and_slopes(OBJECTIVE, params, batch, VAE, devices)
  return terms.named(), slopes


def _separate(vae, batch):
  """The terms of the paper one by one, without any routing."""
  terms = elbo(vae, batch)
  made = [
    vae.decode(d.sample(batch.key)).mean
    for d in (vae.encode(batch.image), vae.prior())
  ]
  real, seen = vae.auxiliary(batch.image / 255.0)
  (fake, seen_again), (dreamt, _) = (vae.auxiliary(x) for x in made)
  # -log(1 / (1 + e^-l)) and -log(1 - 1 / (1 + e^-l)), written out.
  true = lambda logit: jnp.log(1 + jnp.exp(-logit))  # noqa: E731
  false = lambda logit: jnp.log(1 + jnp.exp(logit))  # noqa: E731
  values = {
    "rate": terms.rate,
    "distortion": terms.distortion,
    "feature_distance": ((seen - seen_again) ** 2).sum(1) / 2,
    "decoder_adversarial_loss": true(fake) + true(dreamt),
    "critic_loss": true(real) + false(fake) + false(dreamt),
    "critic_accuracy": (
      2.0 * (real > 0) + 1.0 * (fake < 0) + 1.0 * (dreamt < 0)
    )
    / 4,
  }
  return {k: v.mean() for k, v in values.items()}, values


@functools.cache
def _expected():
  """Returns the values, and each one's gradient for all three players."""
  batch = _batch()

  def terms(params):
    return run(_separate, VAE, params, batch)

  gradients, values = jit(jax.jacrev(terms, has_aux=True))(_params())
  return values, gradients


def test_terms_equal_the_paper_s_one_by_one():
  values, _ = _expected()
  terms, _ = _play(_params(), _batch())
  for name, value in values.items():
    np.testing.assert_allclose(terms[name], value, rtol=2e-4, err_msg=name)
  total = (
    values["rate"]
    + (1 + GAMMA) * values["feature_distance"]
    + values["decoder_adversarial_loss"]
    + values["critic_loss"]
  )
  np.testing.assert_allclose(terms["loss"], total, rtol=1e-4)


def test_each_player_has_the_gradient_of_its_own_term():
  _, of = _expected()
  distance, adversary = of["feature_distance"], of["decoder_adversarial_loss"]
  everyone = ("posterior", "decoder", "auxiliary")
  # Whatever could leak is there to leak.
  for leak in (
    [distance[p] for p in everyone]
    + [adversary[p] for p in everyone]
    + [of["critic_loss"][p] for p in everyone]
    + [of["rate"]["posterior"]]
  ):
    assert optax.tree.norm(leak) > 1e-3
  expected = {
    "posterior": jax.tree.map(
      jnp.add, of["rate"]["posterior"], distance["posterior"]
    ),
    "decoder": jax.tree.map(
      lambda d, a: GAMMA * d + a, distance["decoder"], adversary["decoder"]
    ),
    "auxiliary": of["critic_loss"]["auxiliary"],
  }
  _, gradient = _play(_params(), _batch())
  assert_close(gradient, expected)


def test_eight_devices_give_the_same_as_one():
  # One example on each: none of them sees another.
  params, batch = _params(), _batch()
  assert_close(
    _play(params, batch), _play(params, batch, devices=len(batch.mask))
  )


def test_the_declared_critic_fits_the_loss():
  c = config_lib.default()
  c.data.image_shape = (16, 16, 3)
  c.objective.name = "vae_gan"
  c.objective.auxiliary.args.channels = (4, 8)
  c.objective.auxiliary.args.feature_layer = 2
  vae = build.model(c, (16, 16, 3), train=False)
  params = jax.eval_shape(lambda: build.init_variables(c, (16, 16, 3)))
  images = jnp.zeros((2, 16, 16, 3), jnp.uint8)
  batch = batch_of(images)

  def values(variables):
    return run(
      lambda v, b: tuple(jax.tree.leaves(OBJECTIVE(v, b))),
      vae,
      variables["params"],
      batch,
      batch_stats=variables["batch_stats"],
    )

  assert {v.shape for v in jax.eval_shape(values, params)} == {(2,)}
