"""The ELBO and a penalty on the covariance of the latents (DIP-VAE)."""

from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Kl, Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked, choice


@checked
def dip_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  kind: Annotated[str, choice("i", "ii")] = "ii",
  lambda_od: Annotated[float, at_least(0)] = 10.0,
  lambda_d: Annotated[float, at_least(0)] = 10.0,
  kl: Kl = "auto",
) -> Terms:
  """-ELBO + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2.

  C is the covariance over the global batch of the posteriors' means, or that
  of the codes: the same plus the mean of the posteriors' variances.

  Args:
    vae: the bound model, with a diagonal normal posterior.
    kind: i for the means' covariance, ii for the codes'.
    lambda_od: nats per squared covariance of two latents.
    lambda_d: nats per squared deviation of a latent's variance from 1.

  Returns:
    Extras: covariance_penalty, nats.

  References:
    Kumar, Sattigeri and Balakrishnan, arXiv 1711.00848, equations 6 and 7.
  """
  draw = one_draw(vae, batch, kl=kl)
  covariance = _covariance(draw.posterior, batch, kind)
  variance = jnp.diag(covariance)
  off_diagonal = covariance - jnp.diag(variance)
  penalty = lambda_od * jnp.sum(jnp.square(off_diagonal))
  penalty += lambda_d * jnp.sum(jnp.square(variance - 1))
  loss = draw.distortion + draw.rate + penalty
  return base.terms(draw, loss, covariance_penalty=penalty)


def _covariance(
  posterior: distributions.Groups, batch: Batch, kind: str
) -> Float[Array, "d d"]:
  mean, log_variance = base.normal_moments("dip_vae", posterior)
  means, mask = global_batch.gather(batch, mean)
  centered = means - global_batch.mean(means, mask)[None, :]
  products = centered[:, :, None] * centered[:, None, :]
  covariance = global_batch.mean(products, mask)
  if kind == "ii":
    variances, _ = global_batch.gather(batch, jnp.exp(log_variance))
    covariance += jnp.diag(global_batch.mean(variances, mask))
  return covariance
