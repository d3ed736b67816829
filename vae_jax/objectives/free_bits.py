"""The ELBO without the cost of the first nats of each latent."""

from typing import Annotated

import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms, one_draw
from vae_jax.objectives.beta_vae import Schedule, kl_weight
from vae_jax.objectives.constraints import at_least, checked, choice


@checked
def free_bits(
  vae: models.Vae,
  batch: Batch,
  *,
  free_nats: Annotated[float, at_least(0)] = 0.25,
  per: Annotated[str, choice("dimension", "group")] = "dimension",
  beta: Annotated[float, at_least(0)] = 1.0,
  schedule: Schedule = "constant",
  warmup_steps: Annotated[int, at_least(0)] = 0,
  cycles: Annotated[int, at_least(1)] = 4,
) -> Terms:
  """E_q[-log p(x | z)] + beta(step) sum_j max(lambda, E_batch KL_j), one draw.

  The mean over the global batch is taken inside the maximum, so that a part
  of the code costs nothing up to lambda nats on average. Each example's loss
  has KL_j where that mean is above lambda, and lambda where it is not: its
  mean over the batch is the sum above, its gradient that of the parts above.
  The rate is the true one.

  Args:
    vae: the bound model; its KL divergence must have a closed form.
    free_nats: lambda, nats per part.
    per: the parts j: each latent "dimension", or each "group" of them.
    beta, schedule, warmup_steps, cycles: see `beta_vae`.

  Returns:
    Extras: free_parts, the number of parts at lambda or below.

  References:
    Kingma et al., arXiv 1606.04934, appendix C.8.

  Raises:
    ConfigError: no closed form is known for the posterior and the prior.
  """
  draw = one_draw(vae, batch)
  parts = kl_parts(draw.posterior, draw.prior, per)
  mean = global_batch.mean(*global_batch.gather(batch, parts))
  above = jnp.broadcast_to(mean > free_nats, parts.shape)
  clamped = jnp.sum(jnp.where(above, parts, free_nats), axis=-1)
  weight = kl_weight(batch.step, beta, schedule, warmup_steps, cycles)
  return base.terms(
    draw,
    draw.distortion + weight * clamped,
    free_parts=jnp.sum(~above, axis=-1, dtype=jnp.float32),
  )


def kl_parts(
  posterior: distributions.Groups, prior: distributions.Groups, per: str
) -> Float[Array, "b j"]:
  """Returns KL(q || p) of each "dimension", or of each "group", nats."""
  pairs = list(zip(posterior.groups, prior.groups, strict=True))
  for q, p in pairs:
    splits = per == "group" or hasattr(q, "kl_per_dimension")
    if not (q.has_kl(p) and splits):
      raise ConfigError(
        f"free_bits needs a closed form of each {per}'s KL divergence, which "
        f"{type(q).__name__} from {type(p).__name__} does not have; choose "
        "another config.model.posterior.name or config.model.prior.name."
      )
  if per == "group":
    return jnp.stack([q.kl(p) for q, p in pairs], axis=-1)
  return jnp.concatenate([q.kl_per_dimension(p) for q, p in pairs], axis=-1)
