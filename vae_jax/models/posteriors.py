"""From an encoder's features to q(z | x), selected by name.

Class names are what `config.model.posterior.name` takes.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.models import layers


class diagonal_normal(nn.Module):
  """N(mean, diag(exp(log_variance))), both affine in the features."""

  latent_dim: int
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, features: Float[Array, "b f"]
  ) -> distributions.DiagonalNormal:
    """Returns the posterior of each example."""
    head = layers.Dense(
      2 * self.latent_dim, dtype=self.dtype, initializer=self.initializer
    )
    mean, log_variance = jnp.split(
      head(features).astype(jnp.float32), 2, axis=-1
    )
    return distributions.DiagonalNormal(mean, log_variance)


class deterministic(nn.Module):
  """A point, affine in the features: the code of a plain autoencoder."""

  latent_dim: int
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, features: Float[Array, "b f"]
  ) -> distributions.Deterministic:
    """Returns the code of each example."""
    head = layers.Dense(
      self.latent_dim, dtype=self.dtype, initializer=self.initializer
    )
    return distributions.Deterministic(head(features).astype(jnp.float32))
