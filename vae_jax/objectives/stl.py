"""Sticking the landing: the weighted bound without the score's noise."""

import jax.numpy as jnp

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, iwae, iwae_gradients
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import checked


@checked
def stl(vae: models.Vae, batch: Batch, *, num_samples: iwae.Count = 1) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k D_k.

  See `iwae_gradients` for v and D. Unbiased for K = 1, the ELBO; biased
  beyond, where `dreg` is not. It vanishes where q(z | x) is the exact
  posterior, for every draw.

  References:
    Roeder, Wu and Duvenaud, arXiv 1703.09194 (the path derivative).
  """
  posterior = vae.encode(batch.image)
  base.check_normal("stl", posterior)
  z, _ = iwae.sample(posterior, batch.key, jnp.arange(num_samples))
  draws = iwae_gradients.weigh_held(vae, batch, posterior, z)
  loss = -iwae.log_mean_exp(draws.log_w)
  return iwae.terms_of(loss, posterior, vae.prior(), draws)
