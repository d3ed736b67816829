"""Building blocks of encoders and decoders."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import layers

_ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "swish", "tanh")


def activation(name: str) -> Callable[[Array], Array]:
  """Returns an elementwise function of `flax.linen`."""
  if name not in _ACTIVATIONS:
    raise ConfigError(
      f"activation is {name!r}; allowed: {', '.join(_ACTIVATIONS)}."
    )
  return getattr(nn, name)


def require_size(
  network: str, image_shape: tuple[int, ...], allowed: tuple[int, int]
) -> None:
  """Refuses images of another (h, w) than a network is built for."""
  if tuple(image_shape) != allowed:
    height, width = image_shape
    raise ConfigError(
      f"{network} is built for images of {allowed[0]}x{allowed[1]} pixels "
      f"only, these are {height}x{width}; 'conv' and 'resnet' take any size."
    )


def halved_sizes(
  image_shape: tuple[int, int], stages: int
) -> list[tuple[int, int]]:
  """Returns (h, w) before each halving and after the last, rounded up."""
  h, w = image_shape
  return [(-(-h // 2**i), -(-w // 2**i)) for i in range(stages + 1)]


def halve(x: Float[Array, "b h w c"]) -> Float[Array, "b m n c"]:
  """Returns means of 2x2 pixels, after an odd last row or column is doubled."""
  b, h, w, c = x.shape
  x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
  return x.reshape(b, -(-h // 2), 2, -(-w // 2), 2, c).mean((2, 4))


def double(x: Float[Array, "b h w c"]) -> Float[Array, "b m n c"]:
  """Repeats every pixel in a square of 2x2."""
  b, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
  return x.reshape(b, 2 * h, 2 * w, c)


class BatchNormAct(nn.Module):
  """Batch norm, activation and channel dropout, in this order.

  Dropout is the only randomness in the project that is not drawn from a key
  per example: it uses Linen's stream "dropout", so that a training step with
  dropout depends on how the batch is split over devices. It drops channels of
  an image.

  Attributes:
    batch_norm: whether to normalize; statistics are of the global batch.
    dropout: probability of dropping a channel in training.
    train: whether to use the batch's statistics and dropout, not the running
      statistics.
    dtype: type of the computation; statistics and parameters are float32.
    axis_name: device axis of the global batch; None on one device.
  """

  activation: Callable[[Array], Array]
  batch_norm: bool = True
  dropout: float = 0.0
  train: bool = False
  dtype: DTypeLike = jnp.float32
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


def group_norm(x: Float[Array, "b h w c"], dtype: DTypeLike) -> jax.Array:
  """Applies a new group norm of the calling module, of up to 8 groups."""
  groups = math.gcd(8, x.shape[-1])
  return nn.GroupNorm(groups, epsilon=1e-5, dtype=dtype)(x)


class GroupNormSwish(nn.Module):
  """swish(normalize(x)), with statistics over groups of channels.

  Attributes:
    norm: "group" (up to 8 groups) or "none", which leaves x as it is.
    dtype: type of the computation; parameters are float32.
  """

  norm: str = "group"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Maps pre-activations to activations."""
    if self.norm not in ("group", "none"):
      raise ConfigError(f"norm is {self.norm!r}; allowed: 'group', 'none'.")
    return nn.swish(group_norm(x, self.dtype) if self.norm == "group" else x)


class ResidualBlock(nn.Module):
  """x + f(x), where f is two 3x3 convolutions, each after an activation.

  Attributes:
    features: output channels; x passes a 1x1 convolution if they differ.
    norm: see `GroupNormSwish`.

  References:
    He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 4(e).
  """

  features: int
  norm: str = "group"
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w o"]:
    """Adds f to the image."""
    settings = {"dtype": self.dtype, "initializer": self.initializer}
    y = x
    for _ in range(2):
      y = GroupNormSwish(self.norm, self.dtype)(y)
      y = layers.conv(y, self.features, **settings)
    if x.shape[-1] != self.features:
      x = layers.conv(x, self.features, 1, **settings)
    return x + y
