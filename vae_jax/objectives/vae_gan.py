"""The VAE/GAN: reconstructions are compared by the features of a critic."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.data.batch import Batch, Stream
from vae_jax.models import critics
from vae_jax.models.draw import rates
from vae_jax.objectives import base
from vae_jax.objectives.base import Kl, Terms
from vae_jax.objectives.constraints import at_least, checked


@base.needs(critics.ImageCritic, reads="images")
@checked
def vae_gan(
  vae: models.Vae,
  batch: Batch,
  *,
  gamma: Annotated[float, at_least(0)] = 1e-6,
  kl: Kl = "auto",
) -> Terms:
  """KL + distance of features for the encoder, an adversary for the decoder.

  With D a critic of images, f its features, x' = the mean image decoded from
  z ~ q(z | x) and x'' that from z ~ p(z), the three players descend
    encoder  KL(q(z | x) || p(z)) + L,  L = 1/2 |f(x) - f(x')|^2
    decoder  gamma L - log D(x') - log D(x'')
    critic   -log D(x) - log(1 - D(x')) - log(1 - D(x''))
  and each alone: f is constant in L, and z is to the decoder and the critic.
  `loss` is the sum of the three. The decoder's adversarial term is the
  non-saturating one, where the paper's is minus the critic's. The distortion
  is reported, not minimized: a likelihood's own parameters stay as they are.

  Args:
    gamma: weight of the distance, which is a sum over features, in the
      decoder's loss; the default is the authors'.

  Returns:
    Extras: feature_distance, L, nats up to a constant;
    decoder_adversarial_loss, nats; critic_loss, nats, 3 log 2 at D = 1/2;
    critic_accuracy, in which real images weigh as much as generated ones.

  References:
    Larsen et al., arXiv 1512.09300, section 3 and algorithm 1.
  """
  base.check_all_levels("vae_gan", vae)
  # Not `one_draw`, because the decoder must see z as a constant.
  posterior, prior = vae.encode(batch.image), vae.prior()
  z, log_q = posterior.draw(batch.key)
  rate = distributions.total(rates(posterior, prior, z, log_q, kl=kl))
  likelihood = vae.decode(lax.stop_gradient(z))
  distortion = -likelihood.log_prob(batch.image)
  reconstruction = likelihood.mean
  # Detached, because held-out images are decoded as reconstructions are.
  prior_z = prior.sample(base.stream(batch.key, Stream.VAE_GAN_PRIOR))
  sample = base.detached(vae)(_image, lax.stop_gradient(prior_z))

  # 1. The critic, of constant images.
  real, features = vae.auxiliary(batch.image / jnp.float32(255))
  features = lax.stop_gradient(features)
  fake, _ = vae.auxiliary(lax.stop_gradient(reconstruction))
  fake_sample, _ = vae.auxiliary(lax.stop_gradient(sample))
  critic_loss = jax.nn.softplus(-real) + jax.nn.softplus(fake)
  critic_loss += jax.nn.softplus(fake_sample)

  # 2. The encoder, through constant weights of decoder and critic.
  through_decoder = base.frozen(_image, vae, z)
  _, features_of_z = base.frozen_auxiliary(vae, through_decoder)
  encoder_loss = rate + _distance(features, features_of_z)

  # 3. The decoder, through constant weights of the critic.
  logit, own_features = base.frozen_auxiliary(vae, reconstruction)
  logit_of_sample, _ = base.frozen_auxiliary(vae, sample)
  distance = _distance(features, own_features)
  adversarial = jax.nn.softplus(-logit) + jax.nn.softplus(-logit_of_sample)

  generated = 0.5 * (fake < 0) + 0.5 * (fake_sample < 0)
  loss = encoder_loss + gamma * distance + adversarial + critic_loss
  terms = Terms(loss, distortion, rate, likelihood.metrics(batch.image))
  return terms.with_loss(
    loss,
    feature_distance=distance,
    decoder_adversarial_loss=adversarial,
    critic_loss=critic_loss,
    critic_accuracy=0.5 * (real > 0) + 0.5 * generated,
  )


def _image(vae: models.Vae, z: distributions.Latents) -> jax.Array:
  return vae.decode(z).mean


def _distance(
  a: Float[Array, "b f"], b: Float[Array, "b f"]
) -> Float[Array, " b"]:
  """Returns -log N(a; b, I) without its constant, nats."""
  return 0.5 * jnp.sum(jnp.square(a - b), axis=-1)
