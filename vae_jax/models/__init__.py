"""Encoders, decoders, priors and the `Vae` that joins them."""

from vae_jax.models.build import (
  build,
  image_shape,
  init_variables,
  likelihood_class,
  parameter_count,
)
from vae_jax.models.vae import Vae

__all__ = [
  "Vae",
  "build",
  "image_shape",
  "init_variables",
  "likelihood_class",
  "parameter_count",
]
