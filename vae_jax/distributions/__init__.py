"""Densities, KL divergences and samplers, in nats, as small frozen structs."""

from vae_jax.distributions.flows import CouplingFlow, InverseAutoregressive
from vae_jax.distributions.latents import (
  LOG_2PI,
  Deterministic,
  DiagonalNormal,
  Groups,
  StandardNormal,
)
from vae_jax.distributions.mixtures import NormalMixture
from vae_jax.distributions.pixels import (
  Bernoulli,
  CalibratedNormal,
  Dequantized,
  Normal,
)

__all__ = [
  "LOG_2PI",
  "Bernoulli",
  "CalibratedNormal",
  "CouplingFlow",
  "Dequantized",
  "Deterministic",
  "DiagonalNormal",
  "Groups",
  "InverseAutoregressive",
  "Normal",
  "NormalMixture",
  "StandardNormal",
]
