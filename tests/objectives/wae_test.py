"""Wasserstein autoencoders: the MMD on average, and the critic."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.support import linear_gaussian_vae as linear
from vae_jax.models import critics, posteriors, priors
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.wae import wae_gan, wae_mmd

GAN = functools.partial(wae_gan, weight=3.0)


def test_mmd_to_independent_prior_draws_is_zero_on_average(exact):
  """Codes that are themselves standard normal are at no distance; a
  comparison of the codes with themselves would not vary."""
  params = linear.standard_codes(exact[0])
  run = linear.jit(functools.partial(linear.terms_of, wae_mmd, devices=2))
  batches = [linear.batch_of(8, seed=seed) for seed in range(40)]
  mmd = np.array([run(params, b).extras["mmd"].mean() for b in batches])
  assert abs(mmd.mean()) < 4 * mmd.std() / np.sqrt(40)
  assert mmd.std() > 0.05


def _values(params, batch, vae):
  return linear.values_of(GAN, params, batch, vae).named()


def _wae_terms(vae, batch):
  terms = elbo(vae, batch)
  (z,) = vae.encode(batch.image).sample(batch.key)
  (wanted,) = vae.prior().sample(batch.key)
  real, fake = vae.auxiliary(wanted), vae.auxiliary(z)
  main = terms.distortion + 3 * jax.nn.softplus(-fake)
  entropy = jax.nn.softplus(-real) + jax.nn.softplus(fake)
  return jnp.mean(main[:3]), jnp.mean(entropy[:3])


def test_each_player_has_the_gradient_of_its_own_term():
  batch = linear.batch_of(16, mask=np.arange(16) < 3)
  linear.check_players(GAN, _wae_terms, linear.players_params(), batch)


def test_wae_gan_compares_codes_with_the_prior():
  critic = critics.LatentCritic(hidden=())
  params = linear.players_params(critic)
  batch = linear.batch_of(np.repeat(linear.images_of(1), 4000, 0))
  prior = priors.StandardNormal(2)
  vae = linear.PLAYERS.clone(auxiliary=critic, latent_prior=prior)
  terms = _values(params, batch, vae)
  layer = params["auxiliary"]["Dense_0"]
  w, b = np.asarray(layer["kernel"])[:, 0], float(layer["bias"][0])
  fake = linear.draw_of(params, batch) @ w + b
  np.testing.assert_allclose(
    terms["encoder_adversarial_loss"], np.logaddexp(0, -fake), rtol=1e-4
  )
  # Logits of the prior's draws, from -log D of them.
  log_d = np.asarray(terms["critic_loss"]) - np.logaddexp(0, fake)
  real = -np.log(np.expm1(log_d))
  spread = np.linalg.norm(w)
  assert abs(real.mean() - b) < 5 * spread / math.sqrt(4000)
  assert abs(real.std() / spread - 1) < 0.08
  assert abs(np.corrcoef(real, fake)[0, 1]) < 0.08
  np.testing.assert_allclose(
    terms["critic_accuracy"], ((real > 0) + 1.0 * (fake < 0)) / 2
  )


def test_wae_gan_without_noise_has_no_rate():
  vae = linear.PLAYERS.clone(posterior=posteriors.Deterministic(2))
  params = linear.without_noise(linear.players_params())
  batch = linear.batch_of(3)
  terms = _values(params, batch, vae)
  assert "rate" not in terms
  mean = linear.run(lambda v, b: v.encode(b.image).mean[0], vae, params, batch)
  expected = np.logaddexp(0, -linear.logit_of(params, mean))
  loss = terms["encoder_adversarial_loss"]
  np.testing.assert_allclose(loss, expected, rtol=1e-4)
