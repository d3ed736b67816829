"""Priors p(z).

Each class is selected by `config.model.prior.name` (standard_normal,
gaussian_mixture, vamp, flow). `training.build.model` sets latent_dim,
image_shape, image_channels and initializer; the other fields are
hyperparameters. A prior is called with `encode`, the function from images in
[0, 1] to their posteriors; a prior that calls it has `encodes = True`.
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

# The collection of the model's arrays that are never trained.
FIXED = "fixed"
# Images [b h w c] in [0, 1] -> their posteriors.
Encode = Callable[[Array], Any]


def _check_at_least(field: str, value: float | int, least: int) -> None:
  if not value >= least:
    raise ConfigError(
      f"config.model.prior.args.{field} is {value}; it must be at least "
      f"{least}."
    )


class StandardNormal(nn.Module):
  """N(0, I), without parameters."""

  latent_dim: int

  def __call__(self, encode: Encode) -> distributions.StandardNormal:
    """Returns the prior."""
    del encode
    return distributions.StandardNormal(self.latent_dim)


class GaussianMixture(nn.Module):
  """A mixture of diagonal normals; means, variances and weights are learned.

  Components start with unit variance and equal weights.

  Attributes:
    spread: standard deviation of the initial means.
  """

  latent_dim: int
  num_components: int = 10
  spread: float = 1.0

  @nn.compact
  def __call__(self, encode: Encode) -> distributions.NormalMixture:
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


class Vamp(nn.Module):
  """1/K sum_k q(z | u_k): the mean posterior of K pseudo-inputs u_k.

  A pseudo-input is a parameter clipped to [0, 1]. Outside [0, 1] only
  gradients that point back inside are kept, so that pixels cannot get stuck.
  Initial pixels are uniform in [0, 1], or the pseudo-inputs are training
  images in gray levels, also where the model is trained on binarized images.

  Attributes:
    num_components: number K of pseudo-inputs.
    initial: "random" | "data", see `training.init_from_data`.
    learned: whether the pseudo-inputs are trained.

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
  def __call__(self, encode: Encode) -> distributions.NormalMixture:
    """Returns the prior after encoding the K pseudo-inputs."""
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
    moments = posterior.mean, posterior.log_variance
    # Equal logits are weights 1 / K.
    logits = jnp.zeros(self.num_components)
    return distributions.NormalMixture(*moments, logits)

  def _pseudo_inputs(self) -> Float[Array, "n h w c"]:
    shape = (self.num_components, *self.image_shape, self.image_channels)
    name, uniform = "pseudo_inputs", nn.initializers.uniform(1.0)
    if self.learned:
      return self.param(name, uniform, shape)
    # Not a parameter, because weight decay would shrink it.
    start = lambda: uniform(self.make_rng("params"), shape)  # noqa: E731
    return self.variable(FIXED, name, start).value


@jax.custom_vjp
def _clip(values: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
  return jnp.clip(values, 0, 1)


def _clip_forward(values: Array) -> tuple[Array, Array]:
  return _clip(values), values


def _clip_backward(values: Array, gradient: Array) -> tuple[Array]:
  # An optimizer's step is opposite to the gradient.
  outwards = ((values < 0) & (gradient > 0)) | ((values > 1) & (gradient < 0))
  return (jnp.where(outwards, 0, gradient),)


_clip.defvjp(_clip_forward, _clip_backward)


class Flow(nn.Module):
  """N(0, I) through affine couplings (RealNVP), initially the identity.

  Attributes:
    num_layers: number of couplings; each transforms one half of the latents.
    hidden: units of the hidden layers of each coupling's network.

  References:
    Dinh, Sohl-Dickstein and Bengio, arXiv 1605.08803.
  """

  latent_dim: int
  num_layers: int = 4
  hidden: tuple[int, ...] = (128, 128)
  initializer: str = "flax"

  @nn.compact
  def __call__(self, encode: Encode) -> distributions.CouplingFlow:
    """Returns the prior."""
    del encode
    _check_at_least("num_layers", self.num_layers, 1)
    if self.latent_dim < 2:
      raise ConfigError(
        f"config.model.latent_dim is {self.latent_dim}; the prior flow needs "
        "at least 2, because each half of the latents transforms the other."
      )
    networks, weights = [], []
    layers = flow_nets.couplings(
      self.latent_dim, self.num_layers, self.hidden, self.initializer
    )
    for i, (network, kept) in enumerate(layers):
      name, example = f"coupling_{i}", jnp.zeros((1, kept))
      weights.append(flow_nets.weights_of(self, name, network, example))
      networks.append(network.apply)
    return distributions.CouplingFlow(
      tuple(weights), self.latent_dim, tuple(networks)
    )
