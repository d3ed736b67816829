"""Priors p(z), selected by name.

Class names are what `config.model.prior.name` takes. Each is called with the
way from images in [0, 1] to their posteriors, for priors made of them; those
say so by `encodes`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.config import ConfigError
from vae_jax.models import flow_nets

# The collection of arrays that belong to the model but are never trained.
FIXED = "fixed"


def _check_at_least(field: str, value: float | int, least: int) -> None:
  if not value >= least:
    raise ConfigError(
      f"config.model.prior.args.{field} is {value}; it must be at least "
      f"{least}."
    )


class standard_normal(nn.Module):
  """N(0, I), without parameters."""

  latent_dim: int

  def __call__(
    self, encode: Callable[..., Any]
  ) -> distributions.StandardNormal:
    """Returns the prior."""
    del encode
    return distributions.StandardNormal(self.latent_dim)


class gaussian_mixture(nn.Module):
  """A mixture of diagonal normals; means, variances and weights are learned.

  Components start with unit variance and equal weights.

  Attributes:
    num_components: of the mixture.
    spread: standard deviation that the means are drawn with at the start.
  """

  latent_dim: int
  num_components: int = 10
  spread: float = 1.0

  @nn.compact
  def __call__(self, encode: Callable[..., Any]) -> distributions.NormalMixture:
    """Returns the prior."""
    del encode
    _check_at_least("num_components", self.num_components, 1)
    _check_at_least("spread", self.spread, 0)
    shape = (self.num_components, self.latent_dim)
    zeros = nn.initializers.zeros
    return distributions.NormalMixture(
      self.param("mean", nn.initializers.normal(self.spread), shape),
      self.param("log_variance", zeros, shape),
      self.param("logits", zeros, shape[:1]),
    )


class vamp(nn.Module):
  """1/K sum_k q(z | u_k): the mean posterior of K pseudo-inputs u_k.

  A pseudo-input is a parameter clipped to [0, 1]. Below 0 and above 1 only
  such gradients pass as lead back inside, so that no pixel gets stuck there.
  At the start pixels are uniform in [0, 1], or the pseudo-inputs are training
  images in grey levels, whether or not the model is shown binarised ones.

  Attributes:
    num_components: number K of pseudo-inputs.
    initial: "random" | "data", see `build.init_from_data`.
    learned: whether they are trained; else only the encoder is.

  References:
    Tomczak and Welling, arXiv 1705.07120.
  """

  encodes: ClassVar[bool] = True

  image_shape: tuple[int, int]
  image_channels: int
  num_components: int = 500
  initial: str = "random"
  learned: bool = True

  @nn.compact
  def __call__(self, encode: Callable[..., Any]) -> distributions.NormalMixture:
    """Returns the prior, from as many more images through the encoder."""
    _check_at_least("num_components", self.num_components, 1)
    if self.initial not in ("random", "data"):
      raise ConfigError(
        f"config.model.prior.args.initial is {self.initial!r}; allowed are "
        "random, data."
      )
    posterior = encode(_clip(self._pseudo_inputs()))
    if not isinstance(posterior, distributions.DiagonalNormal):
      raise ConfigError(
        "config.model.prior.name is vamp, which needs "
        "config.model.posterior.name to be diagonal_normal."
      )
    # Equal logits are weights 1 / K.
    logits = jnp.zeros(self.num_components)
    return distributions.NormalMixture(
      posterior.mean, posterior.log_variance, logits
    )

  def _pseudo_inputs(self) -> Float[Array, "n h w c"]:
    shape = (self.num_components, *self.image_shape, self.image_channels)
    name, uniform = "pseudo_inputs", nn.initializers.uniform(1.0)
    if self.learned:
      return self.param(name, uniform, shape)
    # No parameter without a gradient: weight decay would shrink it.
    start = lambda: uniform(self.make_rng("params"), shape)  # noqa: E731
    return self.variable(FIXED, name, start).value


@jax.custom_vjp
def _clip(values: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
  return jnp.clip(values, 0, 1)


def _clip_forward(values: Any) -> tuple[Any, Any]:
  return _clip(values), values


def _clip_backward(values: Any, gradient: Any) -> tuple[Any]:
  # A step goes against the gradient.
  outwards = ((values < 0) & (gradient > 0)) | ((values > 1) & (gradient < 0))
  return (jnp.where(outwards, 0, gradient),)


_clip.defvjp(_clip_forward, _clip_backward)


class flow(nn.Module):
  """N(0, I) through affine couplings (RealNVP), the identity at the start.

  Attributes:
    num_layers: couplings; each moves one half of the latents.
    hidden: units of the hidden layers of each coupling's network.

  References:
    Dinh, Sohl-Dickstein and Bengio, arXiv 1605.08803.
  """

  latent_dim: int
  num_layers: int = 4
  hidden: tuple[int, ...] = (128, 128)
  initializer: str = "flax"

  @nn.compact
  def __call__(self, encode: Callable[..., Any]) -> distributions.CouplingFlow:
    """Returns the prior."""
    del encode
    _check_at_least("num_layers", self.num_layers, 1)
    if self.latent_dim < 2:
      raise ConfigError(
        f"config.model.latent_dim is {self.latent_dim}; the prior flow needs "
        "at least 2, since each half of the latents moves the other."
      )
    first = self.latent_dim // 2
    networks, weights = [], []
    for i in range(self.num_layers):
      kept = self.latent_dim - first if i % 2 else first
      network = flow_nets.Coupling(
        self.latent_dim - kept,
        tuple(self.hidden),
        self.initializer,
        parent=None,
      )
      name, example = f"coupling_{i}", jnp.zeros((1, kept))
      weights.append(flow_nets.weights_of(self, name, network, example))
      networks.append(network.apply)
    return distributions.CouplingFlow(
      tuple(weights), self.latent_dim, tuple(networks)
    )
