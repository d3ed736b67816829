"""Posteriors q(z | x): an encoder's features -> a distribution of latents.

Each class is selected by `config.model.posterior.name` (diagonal_normal,
deterministic, iaf). `training.build.model` sets latent_dim, dtype (of the
affine map; its outputs are float32) and initializer; the other fields are
hyperparameters.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.config import ConfigError
from vae_jax.models import flow_nets, layers


def _affine(head: nn.Module, x: Float[Array, "b f"], count: int) -> jax.Array:
  settings = {"dtype": head.dtype, "initializer": head.initializer}
  return layers.dense(x, count, **settings).astype(jnp.float32)


class DiagonalNormal(nn.Module):
  """N(mean, diag(exp(log_variance))), both affine in the features."""

  latent_dim: int
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, features: Float[Array, "b f"]
  ) -> distributions.DiagonalNormal:
    """Returns the posterior of each example."""
    outputs = _affine(self, features, 2 * self.latent_dim)
    return distributions.DiagonalNormal(*jnp.split(outputs, 2, axis=-1))


class Deterministic(nn.Module):
  """A point, affine in the features: the code of a plain autoencoder."""

  latent_dim: int
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, features: Float[Array, "b f"]
  ) -> distributions.Deterministic:
    """Returns the code of each example."""
    return distributions.Deterministic(_affine(self, features, self.latent_dim))


class Iaf(nn.Module):
  """A diagonal normal through inverse autoregressive layers.

  Mean and log variance of the normal and a context for the layers are affine
  in the features. The layers start close to the identity.

  Attributes:
    num_layers: number of layers, each with a network of its own.
    hidden: units of the hidden layers of each network.
    context: size of the context vector, which each network reads.

  References:
    Kingma et al., arXiv 1606.04934, section 4.
  """

  latent_dim: int
  num_layers: int = 2
  hidden: tuple[int, ...] = (128,)
  context: int = 64
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, features: Float[Array, "b f"]
  ) -> distributions.InverseAutoregressive:
    """Returns the posterior of each example."""
    for field in ("num_layers", "context"):
      if getattr(self, field) < 1:
        raise ConfigError(
          f"config.model.posterior.args.{field} is {getattr(self, field)}; it "
          "must be at least 1."
        )
    dim = self.latent_dim
    outputs = _affine(self, features, 2 * dim + self.context)
    mean, log_variance, context = jnp.split(outputs, [dim, 2 * dim], axis=-1)
    network = flow_nets.Made(tuple(self.hidden), self.initializer, parent=None)
    weights = tuple(
      flow_nets.weights_of(self, f"made_{i}", network, mean, context)
      for i in range(self.num_layers)
    )
    base = distributions.DiagonalNormal(mean, log_variance)
    return distributions.InverseAutoregressive(
      base, context, weights, network.apply
    )
