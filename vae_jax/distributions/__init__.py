"""Densities, KL divergences and samplers, in nats, as small frozen structs."""

from vae_jax.distributions.bernoulli import Bernoulli, ContinuousBernoulli
from vae_jax.distributions.discrete import (
  Categorical,
  DiscretizedLogistic,
  DiscretizedLogisticMixture,
)
from vae_jax.distributions.flows import CouplingFlow, InverseAutoregressive
from vae_jax.distributions.gaussian import (
  MIN_SIGMA,
  CalibratedNormal,
  Laplace,
  Normal,
)
from vae_jax.distributions.mixture import Affine, FullNormalMixture, PerClass
from vae_jax.distributions.normal import (
  LOG_2PI,
  Deterministic,
  DiagonalNormal,
  Groups,
  Latents,
  NormalMixture,
  StandardNormal,
  total,
)
from vae_jax.distributions.pixels import Dequantized, to_uint8, unit_pixels

__all__ = [
  "LOG_2PI",
  "MIN_SIGMA",
  "Affine",
  "Bernoulli",
  "CalibratedNormal",
  "Categorical",
  "ContinuousBernoulli",
  "CouplingFlow",
  "Dequantized",
  "Deterministic",
  "DiagonalNormal",
  "DiscretizedLogistic",
  "DiscretizedLogisticMixture",
  "FullNormalMixture",
  "Groups",
  "Laplace",
  "InverseAutoregressive",
  "Latents",
  "Normal",
  "NormalMixture",
  "PerClass",
  "StandardNormal",
  "to_uint8",
  "total",
  "unit_pixels",
]
