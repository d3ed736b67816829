"""The sliced Wasserstein autoencoder: codes are compared with the prior by
their projections on random lines."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked


@checked
def swae(
  vae: models.Vae,
  batch: Batch,
  *,
  weight: Annotated[float, at_least(0)] = 10.0,
  projections: Annotated[int, at_least(1)] = 50,
) -> Terms:
  """E_q[-log p(x | z)] + weight SW_2^2(q(z), p(z)), one draw of z.

  Args:
    vae: the bound model; its posterior may be deterministic.
    weight: nats per squared unit of the latents.
    projections: random directions per step.

  Returns:
    Extras: sliced_wasserstein, SW_2^2, in squared units of the latents.

  References:
    Kolouri et al., arXiv 1804.01947, algorithm 1, squared cost.
  """
  draw = one_draw(vae, batch)
  prior_z = draw.prior.sample(base.stream(batch.key, Stream.PRIOR))
  distance = sliced_wasserstein(
    batch, base.flatten(draw.z), base.flatten(prior_z), projections=projections
  )
  loss = draw.distortion + weight * distance
  return base.terms(draw, loss, sliced_wasserstein=distance)


def sliced_wasserstein(
  batch: Batch,
  z: Float[Array, "b d"],
  prior_z: Float[Array, "b d"],
  *,
  projections: int,
) -> Float[Array, ""]:
  """Returns the mean over random directions of W_2^2 between projections.

  In one dimension the optimal transport keeps the order: W_2^2 is the mean
  squared difference of the sorted codes and the sorted draws. Directions are
  uniform on the sphere, the same for the global batch.

  References:
    Kolouri et al., arXiv 1804.01947, algorithm 1.
  """
  key = jax.random.fold_in(global_batch.key(batch), Stream.PROJECTIONS)
  directions = jax.random.normal(key, (z.shape[-1], projections))
  directions /= jnp.linalg.norm(directions, axis=0, keepdims=True)

  def order(values: Float[Array, "b d"]) -> Float[Array, "n p"]:
    values, mask = global_batch.gather(batch, values)
    line = jnp.matmul(values, directions, precision="highest")
    # Padding comes last on both sides, where its differences are 0.
    last = jnp.finfo(line.dtype).max
    return jnp.sort(jnp.where(mask[:, None], line, last), axis=0)

  cost = jnp.sum(jnp.square(order(z) - order(prior_z)))
  _, mask = global_batch.gather(batch, batch.mask)
  return cost / (projections * jnp.maximum(jnp.sum(mask), 1))
