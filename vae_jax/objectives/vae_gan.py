"""A VAE whose reconstructions are judged by what a critic sees in them."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.models import critics
from vae_jax.objectives import base
from vae_jax.objectives.base import Terms


def _image(
  vae: models.Vae, z: tuple[Float[Array, "b _"], ...]
) -> Float[Array, "b h w c"]:
  return vae.decode(z).mean


def _judge(
  vae: models.Vae, image: Float[Array, "b h w c"]
) -> tuple[Float[Array, " b"], Float[Array, "b f"]]:
  return vae.auxiliary(image)


def _distance(
  a: Float[Array, "b f"], b: Float[Array, "b f"]
) -> Float[Array, " b"]:
  """Returns -log N(a; b, I) without its constant, nats."""
  return 0.5 * jnp.sum(jnp.square(a - b), axis=-1)


@base.needs(critics.ImageCritic, reads="images")
def vae_gan(
  vae: models.Vae,
  batch: Batch,
  *,
  gamma: float = 1e-6,
  kl: str = "auto",
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
  is reported, not minimised: a likelihood's own parameters stay as they are.

  Args:
    vae: the bound model.
    batch: this device's examples.
    gamma: weight of the distance, which is a sum over features, in the
      decoder's loss; the default is the authors'.
    kl: auto | closed | sampled, see `terms.rate`.

  Returns:
    With extras feature_distance, L, nats up to a constant;
    decoder_adversarial_loss, nats; critic_loss, nats, 3 log 2 at D = 1/2;
    critic_accuracy, real images weighing as much as made ones.

  References:
    Larsen et al., arXiv 1512.09300, section 3 and algorithm 1.
  """
  base.check("gamma", gamma, gamma >= 0, "0 or more")
  base.check_all_levels("vae_gan", vae)
  posterior, prior = vae.encode(batch.image), vae.prior()
  z, log_q = posterior.sample_and_log_prob(batch.key)
  rate = base.rate(posterior, prior, z, log_q, kl=kl)
  keys = base.stream(batch.key, Stream.VAE_GAN_PRIOR)
  likelihood = vae.decode(lax.stop_gradient(z))
  distortion = -likelihood.log_prob(batch.image)
  remade = likelihood.mean
  # Only reconstructions are what held-out images will be decoded to.
  dreams = lax.stop_gradient(prior.sample(keys))
  dreamt = base.unrecorded(_image, vae, dreams)

  real, features = vae.auxiliary(batch.image / jnp.float32(255))
  features = lax.stop_gradient(features)
  fake, _ = vae.auxiliary(lax.stop_gradient(remade))
  fake_dreamt, _ = vae.auxiliary(lax.stop_gradient(dreamt))
  critic_loss = (
    jax.nn.softplus(-real)
    + jax.nn.softplus(fake)
    + jax.nn.softplus(fake_dreamt)
  )

  # The same reconstruction once more, for the encoder: its gradient passes
  # the decoder and the critic but stays in neither.
  _, seen = base.frozen(_judge, vae, base.frozen(_image, vae, z))
  encoder_loss = rate + _distance(features, seen)

  judged, seen = base.frozen(_judge, vae, remade)
  judged_dreamt, _ = base.frozen(_judge, vae, dreamt)
  distance = _distance(features, seen)
  adversarial = jax.nn.softplus(-judged) + jax.nn.softplus(-judged_dreamt)
  made = 0.5 * (fake < 0) + 0.5 * (fake_dreamt < 0)
  extras = {
    "feature_distance": distance,
    "decoder_adversarial_loss": adversarial,
    "critic_loss": critic_loss,
    "critic_accuracy": 0.5 * (real > 0) + 0.5 * made,
  }
  return Terms(
    loss=encoder_loss + gamma * distance + adversarial + critic_loss,
    distortion=distortion,
    rate=rate,
    extras=extras | likelihood.metrics(batch.image),
  )
