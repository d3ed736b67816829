"""The evidence lower bound."""

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives.base import Kl, Terms, one_draw


def elbo(vae: models.Vae, batch: Batch, *, kl: Kl = "auto") -> Terms:
  """-ELBO = E_q[-log p(x | z)] + KL(q(z | x) || p(z)), one draw of z.

  References:
    Kingma and Welling, arXiv 1312.6114, equation 10 with L = 1.
  """
  draw = one_draw(vae, batch, kl=kl)
  return Terms(
    loss=draw.distortion + draw.rate,
    distortion=draw.distortion,
    rate=draw.rate,
    extras=draw.extras,
  )
