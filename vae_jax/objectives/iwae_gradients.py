"""Gradients of weighted draws for the encoder, shared by stl, dreg and rws.

log w_k depends on the encoder's weights phi through the draw z_k and through
the density q(z_k | x) that it is divided by. The gradient of the second path
is noise, with mean zero at K = 1 and a bias against the encoder beyond. Here
D_k is the derivative by the first path alone, through z_k with the parameters
of q held constant, and v = softmax(log w). Decoder and prior always follow
sum_k v_k d log w_k, and the value of every loss is -L_K, as of `iwae.iwae`,
whose extras they report.

The posterior must be a diagonal normal: holding the parameters of q means
holding its mean and variance only where these depend on nothing but x.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, iwae
from vae_jax.objectives.base import Terms


def weigh_held(
  vae: models.Vae, batch: Batch, posterior: distributions.Groups, z: iwae.Draws
) -> iwae.Weighted:
  """Returns densities that depend on the encoder through z alone."""
  held = lax.stop_gradient(posterior)
  return iwae.weigh(vae, batch.image, z, jax.vmap(held.log_prob)(z))


def doubly_reparameterized(
  objective: str,
  vae: models.Vae,
  batch: Batch,
  num_samples: int,
  factor: Callable[[jax.Array], jax.Array],
) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k factor(v_k) D_k.

  References:
    Tucker et al., arXiv 1810.04152.

  Raises:
    ConfigError: the posterior is not normal, or the decoder has dropout.
  """
  if getattr(vae.decoder, "dropout", 0.0) > 0:
    raise ConfigError(
      f"config.objective.name is {objective}, which decodes each draw twice "
      "and needs the same image; set config.model.decoder.args.dropout to 0.0."
    )
  posterior = vae.encode(batch.image)
  base.check_normal(objective, posterior)
  z, _ = iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  # The weights must be known before the pass that is differentiated. Its
  # values are the same: the compiler makes one pass of the two.
  constant = batch, posterior, lax.stop_gradient(z)
  known = base.detached(vae)(weigh_held, *constant)
  scale = factor(lax.stop_gradient(known.weight))
  z = tuple(_scale_gradient(v, scale) for v in z)
  draws = weigh_held(vae, batch, posterior, z)
  loss = -iwae.log_mean_exp(draws.log_w)
  return iwae.terms_of(loss, posterior, vae.prior(), draws)


@jax.custom_jvp
def _scale_gradient(
  z: Float[Array, "k b d"], factor: Float[Array, "k b"]
) -> Float[Array, "k b d"]:
  """Returns z, and multiplies its gradient by the factor."""
  del factor
  return z


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals: tuple, tangents: tuple) -> tuple:
  (z, factor), (dz, _) = primals, tangents
  return z, factor[..., None] * dz
