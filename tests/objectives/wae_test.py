"""Wasserstein autoencoders: the weight of the MMD, and the critic."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.linear_gaussian_vae import (
  PLAYERS,
  VAE,
  assert_close,
  batch_of,
  check_batches,
  check_padding,
  check_players,
  draw_of,
  images_of,
  jit,
  logit_of,
  players_params,
  run,
  standard_codes,
  terms_and_slopes,
  terms_of,
  values_of,
  without_noise,
)
from vae_jax.models import critics, posteriors, priors
from vae_jax.objectives.autoencoder import autoencoder
from vae_jax.objectives.elbo import elbo
from vae_jax.objectives.wae import wae_gan, wae_mmd

GAN = functools.partial(wae_gan, weight=3.0)


MMD = functools.partial(wae_mmd, weight=3.0)


def test_wae_mmd_weighs_the_distance(exact):
  terms, plain = (values_of(objective, *exact) for objective in (MMD, elbo))
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  np.testing.assert_allclose(terms.rate, plain.rate, rtol=1e-6)
  expected = plain.distortion + 3 * terms.extras["mmd"]
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def test_mmd_to_independent_prior_draws_is_zero_on_average(exact):
  """Codes that are themselves standard normal are at no distance; a
  comparison of the codes with themselves would not vary."""
  params = standard_codes(exact[0])
  run = jit(functools.partial(terms_of, MMD, devices=2))
  mmd = np.array(
    [
      run(params, batch_of(images_of(8), seed=seed)).extras["mmd"].mean()
      for seed in range(40)
    ]
  )
  assert abs(mmd.mean()) < 4 * mmd.std() / np.sqrt(40)
  assert mmd.std() > 0.05


def test_wae_mmd_accepts_points(exact):
  params, batch = exact
  vae = VAE.clone(posterior=posteriors.Deterministic(2))
  params = without_noise(params)
  terms, plain = (
    values_of(o, params, batch, vae=vae) for o in (MMD, autoencoder)
  )
  assert terms.rate is None
  np.testing.assert_allclose(terms.distortion, plain.distortion, rtol=1e-6)
  assert (np.asarray(terms.loss) != np.asarray(plain.loss)).all()


def test_wae_mmd_is_the_same_on_eight_devices(exact):
  check_batches(MMD, *exact, per_example=False)


def test_padding_has_no_weight_in_wae_mmd(exact):
  check_padding(MMD, exact[0])


def _values(params, batch, vae):
  return values_of(GAN, params, batch, vae).named()


def _wae_terms(vae, batch):
  terms = elbo(vae, batch)
  (z,) = vae.encode(batch.image).sample(batch.key)
  (wanted,) = vae.prior().sample(batch.key)
  real, fake = vae.auxiliary(wanted), vae.auxiliary(z)
  main = terms.distortion + 3 * jax.nn.softplus(-fake)
  entropy = jax.nn.softplus(-real) + jax.nn.softplus(fake)
  return jnp.mean(main[:3]), jnp.mean(entropy[:3])


def test_each_player_has_the_gradient_of_its_own_term():
  batch = batch_of(images_of(16), mask=np.arange(16) < 3)
  check_players(GAN, _wae_terms, players_params(), batch)


def test_wae_gan_is_the_same_on_as_many_devices_as_examples():
  # None of them sees another.
  batch = batch_of(images_of(16))
  one, many = (
    terms_and_slopes(GAN, players_params(), batch, PLAYERS, devices=n)
    for n in (1, 16)
  )
  assert_close(one, many)


def test_wae_gan_compares_codes_with_the_prior():
  linear = critics.LatentCritic(hidden=())
  params = players_params(linear)
  batch = batch_of(np.repeat(images_of(1), 4000, 0))
  vae = PLAYERS.clone(auxiliary=linear, latent_prior=priors.StandardNormal(2))
  terms = _values(params, batch, vae)
  layer = params["auxiliary"]["Dense_0"]
  w, b = np.asarray(layer["kernel"])[:, 0], float(layer["bias"][0])
  fake = draw_of(params, batch) @ w + b
  np.testing.assert_allclose(
    terms["encoder_adversarial_loss"], np.logaddexp(0, -fake), rtol=1e-4
  )
  # Logits of the prior's draws, from -log D of them.
  real = -np.log(
    np.expm1(np.asarray(terms["critic_loss"]) - np.logaddexp(0, fake))
  )
  spread = np.linalg.norm(w)
  assert abs(real.mean() - b) < 5 * spread / math.sqrt(4000)
  assert abs(real.std() / spread - 1) < 0.08
  assert abs(np.corrcoef(real, fake)[0, 1]) < 0.08
  np.testing.assert_allclose(
    terms["critic_accuracy"], ((real > 0) + 1.0 * (fake < 0)) / 2
  )


def test_wae_gan_without_noise_has_no_rate():
  vae = PLAYERS.clone(posterior=posteriors.Deterministic(2))
  params, batch = players_params(), batch_of(images_of(3))
  params = without_noise(params)
  terms = _values(params, batch, vae)
  assert "rate" not in terms
  mean = run(lambda v, b: v.encode(b.image).mean[0], vae, params, batch)
  np.testing.assert_allclose(
    terms["encoder_adversarial_loss"],
    np.logaddexp(0, -logit_of(params, mean)),
    rtol=1e-4,
  )
