"""Reweighted wake-sleep, without a sleep phase."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, iwae, iwae_gradients
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import at_least, checked


@checked
def rws(
  vae: models.Vae,
  batch: Batch,
  *,
  num_samples: Annotated[int, at_least(2)] = 50,
  doubly: bool = False,
) -> Terms:
  """-L_K; its gradient for the encoder is -sum_k v_k d log q(z_k | x).

  See `iwae_gradients` for v. The encoder follows KL(p(z | x) || q(z | x)),
  whose weights are estimated from the same draws; the draws are constants.
  `doubly` estimates the same by -sum_k (v_k - v_k^2) D_k, with less noise.

  Args:
    num_samples: K, draws per image, 2 or more: a single weight is always 1.
    doubly: whether the encoder's gradient goes through the draws.

  References:
    Bornschein and Bengio, arXiv 1406.2751 (wake-phase updates of both
    networks); doubly: Tucker et al., arXiv 1810.04152 (RWS-DReG).
  """
  if doubly:
    return iwae_gradients.doubly_reparameterized(
      "rws with doubly", vae, batch, num_samples, lambda v: 1 - v
    )
  posterior = vae.encode(batch.image)
  base.check_normal("rws", posterior)
  z, log_q = lax.stop_gradient(
    iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  )
  draws = iwae.weigh(vae, batch.image, z, log_q)
  log_q = jax.vmap(posterior.log_prob)(z)
  weight = lax.stop_gradient(draws.weight)
  for_encoder = -jnp.sum(weight * log_q, axis=0)
  loss = -iwae.log_mean_exp(draws.log_w)
  loss += for_encoder - lax.stop_gradient(for_encoder)
  return iwae.terms_of(loss, posterior, vae.prior(), draws)
