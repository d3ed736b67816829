"""The ELBO with its rate held at a capacity that rises."""

from typing import Annotated

import jax.numpy as jnp
from jax import lax

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives import global_batch
from vae_jax.objectives.base import Kl, Terms
from vae_jax.objectives.constraints import at_least, checked, choice
from vae_jax.objectives.elbo import elbo


@checked
def capacity_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  capacity: Annotated[float, at_least(0)] = 25.0,
  gamma: Annotated[float, at_least(0)] = 1000.0,
  warmup_steps: Annotated[int, at_least(0)] = 100_000,
  per: Annotated[str, choice("batch", "example")] = "batch",
  kl: Kl = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + gamma |KL(q(z | x) || p(z)) - C(step)|, one draw.

  C rises linearly from 0 to the capacity, so that the code takes up
  information little by little.

  Args:
    capacity: C after the warm-up, nats.
    gamma: weight of the distance between rate and C, nats per nat.
    warmup_steps: optimizer steps until C stays at the capacity; 0 = at once.
    per: the rate that is held at C. "batch": the mean over the global batch,
      as in the experiments of Locatello et al.; "example": each image's, a
      stricter reading of equation 8.

  Returns:
    Extras: capacity, C, nats.

  References:
    Burgess et al., arXiv 1804.03599, equation 8; Locatello et al., arXiv
    1811.12359 (AnnealedVAE).
  """
  terms = elbo(vae, batch, kl=kl)
  risen = jnp.minimum(1.0, batch.step / warmup_steps) if warmup_steps else 1.0
  target = jnp.float32(capacity) * risen
  excess = terms.rate - target
  held = excess
  if per == "batch":
    held = global_batch.mean(*global_batch.gather(batch, excess))
  # With the sign of the held value, the mean of the examples' losses is gamma
  # times its absolute value, and so is the gradient.
  sign = lax.stop_gradient(jnp.sign(held))
  loss = terms.distortion + gamma * sign * excess
  return terms.with_loss(loss, capacity=target)
