"""Wasserstein autoencoders: wae_mmd and wae_gan.

They move the aggregate posterior q(z) to the prior, by an MMD or by a critic.
Neither needs a density: the code may be a point.
"""

from typing import Annotated

import jax
from jax import lax

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch, Stream
from vae_jax.models import critics
from vae_jax.objectives import base
from vae_jax.objectives.base import Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked
from vae_jax.objectives.mmd import Kernel, mmd


@checked
def wae_mmd(
  vae: models.Vae,
  batch: Batch,
  *,
  weight: Annotated[float, at_least(0)] = 200.0,
  kernel: Kernel = "imq",
) -> Terms:
  """E_q[-log p(x | z)] + weight MMD^2(q(z), p(z)), one draw of z.

  With likelihood gaussian of sigma^2 = 1/2 the first term is the summed
  squared error, up to a constant. The authors' code has 0.05 of that for
  pixels in [0, 1] and 10 MMD^2 on MNIST: weight 200.

  Args:
    vae: the bound model; its posterior may be deterministic.
    weight: nats per unit of MMD^2; see `mmd.kernel_values` for its scale.

  Returns:
    Extras: mmd, MMD^2.

  References:
    Tolstikhin et al., arXiv 1711.01558, algorithm 2.
  """
  draw = one_draw(vae, batch)
  prior_z = draw.prior.sample(base.stream(batch.key, Stream.PRIOR))
  distance = mmd(
    batch, base.flatten(draw.z), base.flatten(prior_z), kernel=kernel
  )
  return base.terms(draw, draw.distortion + weight * distance, mmd=distance)


@base.needs(critics.WaeCritic, reads="latents")
@checked
def wae_gan(
  vae: models.Vae, batch: Batch, *, weight: Annotated[float, at_least(0)] = 10.0
) -> Terms:
  """E_q[-log p(x | z)] - weight E_q[log D(z)], which draws q(z) to p(z).

  The critic D tells draws of the prior from codes, by
  -log D(z ~ p) - log(1 - D(z ~ q)), which `weight` does not scale: its
  optimizer sets its pace. The encoder's term is the non-saturating one. This
  is the adversarial autoencoder too. With posterior deterministic there is no
  rate; otherwise the rate is reported, not minimized.

  Args:
    weight: nats of distortion for one nat of -log D; the paper's lambda,
      where its cost is the distortion.

  Returns:
    Extras: encoder_adversarial_loss, -log D(z ~ q), nats; critic_loss, nats,
    2 log 2 for a critic at chance; critic_accuracy.

  References:
    Tolstikhin et al., arXiv 1711.01558, algorithm 1; Makhzani et al., arXiv
    1511.05644, section 2.
  """
  if vae.latent_prior.variables.get("params"):
    raise ConfigError(
      "config.objective.name is wae_gan, which does not train a prior; set "
      "config.model.prior.name to standard_normal."
    )
  draw = one_draw(vae, batch)
  prior_z = draw.prior.sample(base.stream(batch.key, Stream.WAE_GAN_PRIOR))
  code, prior_code = base.flatten(draw.z), base.flatten(prior_z)
  for_encoder = base.frozen_auxiliary(vae, code)
  adversarial_loss = jax.nn.softplus(-for_encoder)
  real = vae.auxiliary(lax.stop_gradient(prior_code))
  fake = vae.auxiliary(lax.stop_gradient(code))
  critic_loss = jax.nn.softplus(-real) + jax.nn.softplus(fake)
  return base.terms(
    draw,
    draw.distortion + weight * adversarial_loss + critic_loss,
    encoder_adversarial_loss=adversarial_loss,
    critic_loss=critic_loss,
    critic_accuracy=0.5 * (real > 0) + 0.5 * (fake < 0),
  )
