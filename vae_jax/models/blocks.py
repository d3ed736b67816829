"""The pieces encoders and decoders are made of."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import layers

_ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "swish", "tanh")


def activation(name: str) -> Callable[[Array], Array]:
  """The elementwise function `flax.linen` has under a name.

  Args:
    name: One of "elu", "gelu", "leaky_relu", "relu", "swish", "tanh".

  Returns:
    The function.

  Raises:
    ConfigError: Another name.
  """
  if name not in _ACTIVATIONS:
    raise ConfigError(
      f"activation is {name!r}; allowed: {', '.join(_ACTIVATIONS)}."
    )
  return getattr(nn, name)


def require_size(
  network: str, image_shape: tuple[int, ...], allowed: tuple[int, int]
) -> None:
  """Refuses images a network of one fixed size cannot take or make.

  Args:
    network: Its name, for the message.
    image_shape: (h, w) asked for, in pixels.
    allowed: (h, w) it was built for, in pixels.

  Raises:
    ConfigError: The two differ.
  """
  if tuple(image_shape) != allowed:
    height, width = image_shape
    raise ConfigError(
      f"{network} is built for images of {allowed[0]}x{allowed[1]} pixels "
      f"only, these are {height}x{width}; 'conv' and 'resnet' take any size."
    )


def halved_sizes(
  image_shape: tuple[int, int], stages: int
) -> list[tuple[int, int]]:
  """(h, w) before each halving and after the last, rounded up, in pixels."""
  sizes = [tuple(image_shape)]
  for _ in range(stages):
    h, w = sizes[-1]
    sizes.append((-(-h // 2), -(-w // 2)))
  return sizes


def halve(x: Float[Array, "b h w c"]) -> Float[Array, "b m n c"]:
  """Means of 2x2 pixels; an odd last row or column stands for two."""
  b, h, w, c = x.shape
  x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
  return x.reshape(b, -(-h // 2), 2, -(-w // 2), 2, c).mean((2, 4))


def double(x: Float[Array, "b h w c"]) -> Float[Array, "b m n c"]:
  """Repeats every pixel in a square of 2x2."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
  return x.reshape(b, 2 * h, 2 * w, c)


class BatchNormAct(nn.Module):
  """What follows a convolution: batch norm, activation, channel dropout.

  Dropout is the only randomness in the project that is not drawn from a key
  per example: it reads Linen's generator "dropout", so a training step with
  dropout depends on how the batch lies on the devices. It drops whole channels
  of an image.

  Attributes:
    activation: Elementwise function.
    batch_norm: Whether to normalise; statistics are of the global batch.
    dropout: Probability of dropping a channel while training.
    train: Use the batch's statistics, and dropout; else the running ones.
    dtype: Type computed in; statistics and parameters are float32.
    axis_name: Device axis the batch lies along; None on one device.
  """

  activation: Callable[[Array], Array]
  batch_norm: bool = True
  dropout: float = 0.0
  train: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Maps pre-activations to activations."""
    if self.batch_norm:
      x = nn.BatchNorm(
        use_running_average=not self.train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=self.dtype,
        axis_name=self.axis_name,
      )(x)
    drop = nn.Dropout(
      self.dropout, broadcast_dims=(1, 2), deterministic=not self.train
    )
    return drop(self.activation(x))


class MakesLayers:
  """Layers with the settings of the network that inherits this: `train`,
  `dtype`, `initializer`, `axis_name` and `remat`, as `encoders.Encoder` has
  them."""

  def _conv(self, features: int, **kwargs) -> layers.Conv:
    return layers.Conv(
      features, dtype=self.dtype, initializer=self.initializer, **kwargs
    )

  def _act(self, activation, **kwargs) -> BatchNormAct:
    return BatchNormAct(
      activation,
      train=self.train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      **kwargs,
    )

  def _stage(
    self, stage: Callable[..., Array], x: Array, *settings: Any
  ) -> Array:
    """Returns stage(self, x, *settings), a function that makes layers.

    With `remat` all that is kept of it for the backward pass is x; names and
    values of parameters, and what is computed, are the same either way.
    """

    def run(net: nn.Module, x: Array) -> Array:
      return stage(net, x, *settings)

    return (nn.remat(run) if self.remat else run)(self, x)


class GroupNormSwish(nn.Module):
  """swish(x), of x normalised over groups of channels if asked for.

  Attributes:
    norm: "group" (up to 8 groups) or "none".
    dtype: Type computed in; parameters are float32.
  """

  norm: str = "group"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Maps pre-activations to activations."""
    if self.norm not in ("group", "none"):
      raise ConfigError(f"norm is {self.norm!r}; allowed: 'group', 'none'.")
    if self.norm == "group":
      groups = math.gcd(8, x.shape[-1])
      x = nn.GroupNorm(groups, epsilon=1e-5, dtype=self.dtype)(x)
    return nn.swish(x)


class ResidualBlock(nn.Module):
  """x + f(x), f two 3x3 convolutions after their activations.

  The order is that of He et al. 2016, "Identity Mappings in Deep Residual
  Networks", figure 4(e).

  Attributes:
    features: Output channels; x passes a 1x1 convolution if they differ.
    norm: See `GroupNormSwish`.
    dtype: Type computed in; parameters are float32.
    initializer: "flax", "glorot" or "torch", see `layers.initializers`.
  """

  features: int
  norm: str = "group"
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w o"]:
    """Adds to the image."""
    y = x
    for _ in range(2):
      y = GroupNormSwish(self.norm, self.dtype)(y)
      y = layers.Conv(
        self.features, dtype=self.dtype, initializer=self.initializer
      )(y)
    if x.shape[-1] != self.features:
      x = layers.Conv(
        self.features, (1, 1), dtype=self.dtype, initializer=self.initializer
      )(x)
    return x + y


def residual(
  net: nn.Module, x: Float[Array, "b h w c"], features: int
) -> Float[Array, "b h w o"]:
  """Applies a `ResidualBlock` of a network, one stage of it."""
  block = ResidualBlock(
    features, norm=net.norm, dtype=net.dtype, initializer=net.initializer
  )
  return block(x)
