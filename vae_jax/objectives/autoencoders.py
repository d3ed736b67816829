"""Objectives without a rate: the code is a point."""

import jax

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives.terms import Terms


def autoencoder(vae: models.Vae, batch: Batch, *, step: jax.Array) -> Terms:
  """-log p(x | z) at z = the posterior's mean.

  With likelihood gaussian of sigma^2 = 1/2 this is the summed squared error,
  up to a constant.

  References:
    Rumelhart, Hinton and Williams, Nature 323, 1986.
  """
  del step
  likelihood = vae.decode(vae.encode(batch.image).mean)
  distortion = -likelihood.log_prob(batch.image)
  return Terms(
    loss=distortion,
    distortion=distortion,
    extras=likelihood.metrics(batch.image),
  )
