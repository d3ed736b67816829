"""The doubly reparameterized gradient of the importance-weighted bound."""

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives import iwae
from vae_jax.objectives.base import Terms
from vae_jax.objectives.constraints import checked
from vae_jax.objectives.iwae_gradients import doubly_reparameterized


@checked
def dreg(
  vae: models.Vae, batch: Batch, *, num_samples: iwae.Count = 50
) -> Terms:
  """-L_K, whose gradient for the encoder is -sum_k v_k^2 D_k.

  See `iwae_gradients` for v and D. The mean of the gradient is that of
  `iwae`, with less noise, at the same cost.

  References:
    Tucker et al., arXiv 1810.04152 (IWAE-DReG).
  """
  return doubly_reparameterized("dreg", vae, batch, num_samples, lambda v: v)
