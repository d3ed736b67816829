"""Encoders, decoders, posteriors, priors, likelihoods, and the `Vae`."""

from vae_jax.models.draw import Draw
from vae_jax.models.vae import (
  Params,
  PyTree,
  Vae,
  Variables,
  decoder_outputs,
  side_inputs,
)

__all__ = [
  "Draw",
  "Params",
  "PyTree",
  "Vae",
  "Variables",
  "decoder_outputs",
  "side_inputs",
]
