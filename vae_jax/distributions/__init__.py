"""Densities, KL divergences and samplers, in nats, as small frozen structs."""

from vae_jax.distributions.continuous_pixels import ContinuousBernoulli, Laplace
from vae_jax.distributions.discrete import (
  Categorical,
  DiscretizedLogistic,
  DiscretizedLogisticMixture,
)
from vae_jax.distributions.flows import CouplingFlow, InverseAutoregressive
from vae_jax.distributions.mixtures import NormalMixture
from vae_jax.distributions.normal import (
  LOG_2PI,
  Deterministic,
  DiagonalNormal,
  Groups,
  StandardNormal,
  no_density,
)
from vae_jax.distributions.pixels import (
  Bernoulli,
  CalibratedNormal,
  Dequantized,
  Normal,
  unit_pixels,
)

__all__ = [
  "LOG_2PI",
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
  "Groups",
  "Laplace",
  "InverseAutoregressive",
  "Normal",
  "NormalMixture",
  "StandardNormal",
  "no_density",
  "unit_pixels",
]
