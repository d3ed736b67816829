"""The ELBO with weights on information and on the aggregate posterior."""

from typing import Annotated

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base
from vae_jax.objectives.base import Kl, Terms, one_draw
from vae_jax.objectives.constraints import at_most, checked, require
from vae_jax.objectives.mmd import Kernel, mmd


@checked
def info_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  alpha: Annotated[float, at_most(1)] = 0.0,
  lambda_mmd: float = 100.0,
  kernel: Kernel = "rbf",
  kl: Kl = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + (1 - alpha) rate + (alpha + lambda_mmd - 1) MMD^2.

  alpha = 1 leaves the MMD alone (MMD-VAE); alpha = 0 and lambda_mmd = 1 is
  the ELBO.

  Args:
    alpha: weight of the information between image and code.
    lambda_mmd: weight of the divergence of q(z) from the prior, nats per unit
      of MMD^2, at least 1 - alpha; see `mmd.kernel_values` for its scale.

  Returns:
    Extras: mmd, MMD^2.

  References:
    Zhao, Song and Ermon, arXiv 1706.02262, with the MMD as divergence.
  """
  least = 1 - alpha
  words = f"it must be at least {least}"
  require("lambda_mmd", lambda_mmd, lambda_mmd >= least, words)
  draw = one_draw(vae, batch, kl=kl)
  prior_z = draw.prior.sample(base.stream(batch.key, Stream.PRIOR))
  distance = mmd(
    batch, base.flatten(draw.z), base.flatten(prior_z), kernel=kernel
  )
  divergence = (1 - alpha) * draw.rate + (alpha + lambda_mmd - 1) * distance
  return base.terms(draw, draw.distortion + divergence, mmd=distance)
