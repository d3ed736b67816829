"""The regularized autoencoder (RAE): a smooth decoder in place of noise."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vae_jax import distributions, models
from vae_jax.data.batch import Batch, Stream
from vae_jax.objectives import autoencoder, base
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import at_least, checked, choice


@checked
def rae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: Annotated[float, at_least(0)] = 1e-4,
  kind: Annotated[str, choice("l2", "gradient_penalty")] = "l2",
  weight: Annotated[float, at_least(0)] = 1e-7,
) -> Terms:
  """-log p(x | z) + beta/2 |z|^2 + weight * regularizer of the decoder.

  The regularizer is
    l2                |theta|^2, all parameters of the decoder
    gradient_penalty  |d mean / d z|^2 at the code, summed over pixels and
                      latents: the expectation of |v^T d mean / d z|^2 over
                      random signs v; one v per image is drawn
  With likelihood gaussian of sigma^2 = 1/2 the first term is the published
  squared error, up to a constant.

  Args:
    beta: nats per squared unit of the code.
    weight: nats per unit of the regularizer.

  Returns:
    Extras: squared_code, |z|^2; regularizer.

  References:
    Ghosh et al., arXiv 1903.12436, section 3; the expectation: Hutchinson,
    Communications in Statistics 18, 1989.
  """
  z = vae.encode(batch.image).mean
  terms = autoencoder.reconstruct(vae, z, batch.image)
  if kind == "l2":
    leaves = jax.tree.leaves(vae.decoder.variables["params"])
    regularizer = sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)
  else:
    key = base.stream(batch.key, Stream.JACOBIAN_SIGNS)
    regularizer = _gradient_penalty(vae, z, key)
  squared_code = jnp.sum(jnp.square(base.flatten(z)), axis=-1)
  penalty = 0.5 * beta * squared_code + weight * regularizer
  return terms.with_loss(
    terms.distortion + penalty,
    squared_code=squared_code,
    regularizer=regularizer,
  )


def _gradient_penalty(
  vae: models.Vae, z: distributions.Latents, key: Key[Array, " b"]
) -> Float[Array, " b"]:
  # A copy, because Flax differentiates no bound module with submodules.
  run = base.detached(vae)
  # Backwards, since the layers have no forward mode; the penalty's own
  # gradient is then a second pass backwards.
  mean, pull_back = jax.vjp(lambda z: run(lambda v, z: v.decode(z).mean, z), z)
  signs = jax.vmap(
    lambda k: jax.random.rademacher(k, mean.shape[1:], mean.dtype)
  )(key)
  (slopes,) = pull_back(signs)
  return jnp.sum(jnp.square(base.flatten(slopes)), axis=-1)
