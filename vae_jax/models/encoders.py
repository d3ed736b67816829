"""Encoders: images in [0, 1] to features; the posterior's head is outside.

This module is the registry: a network is selected by its name here, and its
dataclass fields are its hyperparameters.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models import blocks, layers


class Encoder(blocks.MakesLayers, nn.Module):
  """What all encoders have in common.

  Attributes:
    train: Batch statistics and dropout on; nothing else changes.
    dtype: Type computed in; parameters are float32.
    initializer: "flax", "glorot" or "torch", see `layers.initializers`.
    axis_name: Device axis of the global batch, for batch norm.
    remat: Recompute each stage in the backward pass, to save memory.
  """

  train: bool = False
  dtype: Any = jnp.float32
  initializer: str = "flax"
  axis_name: str | None = None
  remat: bool = False


class Mlp(Encoder):
  """Fully connected layers over the flattened image.

  Attributes:
    hidden: Units of each layer.
    activation: Name of the function after each, see `blocks.activation`.
  """

  hidden: tuple[int, ...] = (400,)
  activation: str = "relu"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    activation = blocks.activation(self.activation)

    def stage(net, x, features):
      dense = layers.Dense(
        features, dtype=net.dtype, initializer=net.initializer
      )
      return activation(dense(x))

    x = x.reshape(x.shape[0], -1)
    for features in self.hidden:
      x = self._stage(stage, x, features)
    return x


class Conv(Encoder):
  """Convolutions of stride 2, no pooling, as in DCGAN (Radford et al. 2016).

  Each stage halves height and width, rounding up, so that any size goes in.

  Attributes:
    channels: Channels of each stage, from the image inwards.
    kernel_size: Side of every window, in pixels.
    batch_norm: Whether each stage is normalised.
    activation: Name of the function, see `blocks.activation`.
    dropout: Probability of dropping a channel, see `blocks.BatchNormAct`.
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  kernel_size: int = 3
  batch_norm: bool = True
  activation: str = "leaky_relu"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    activation = blocks.activation(self.activation)

    def stage(net, x, features):
      # Batch norm brings its own bias.
      x = net._conv(
        features,
        kernel_size=(net.kernel_size, net.kernel_size),
        strides=(2, 2),
        use_bias=not net.batch_norm,
      )(x)
      return net._act(
        activation, batch_norm=net.batch_norm, dropout=net.dropout
      )(x)

    for features in self.channels:
      x = self._stage(stage, x, features)
    return x.reshape(x.shape[0], -1)


class Resnet(Encoder):
  """Residual blocks at each resolution, halved by average pooling.

  Nothing depends on the other images of the batch.

  Attributes:
    channels: Channels at each resolution, from the image inwards; each ends
      in a halving, rounding up.
    depth: Residual blocks at each resolution.
    norm: "group" or "none".
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  depth: int = 1
  norm: str = "group"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    x = self._conv(self.channels[0])(x)
    for features in self.channels:
      for _ in range(self.depth):
        x = self._stage(blocks.residual, x, features)
      x = blocks.halve(x)
    x = blocks.GroupNormSwish(self.norm, self.dtype)(x)
    return x.reshape(x.shape[0], -1)


class LectureMnist(Encoder):
  """Encoder of Raschka's STAT 453 lectures 16 and 17 for 28x28 digits."""

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    blocks.require_size("lecture_mnist", x.shape[1:3], (28, 28))
    # PyTorch's padding=1; "SAME" would shift the windows of stride 2.
    one = ((1, 1), (1, 1))

    def stage(net, x, features, strides):
      return nn.leaky_relu(net._conv(features, strides=strides, padding=one)(x))

    for features, stride in ((32, 1), (64, 2), (64, 2)):
      x = self._stage(stage, x, features, (stride, stride))
    x = self._conv(64, padding=one)(x)
    return x.reshape(x.shape[0], -1)


class LectureCeleba(Encoder):
  """Encoder of Raschka's STAT 453 lecture 17 for 128x128 faces.

  Attributes:
    dropout: Probability of dropping a channel.
  """

  dropout: float = 0.25

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    blocks.require_size("lecture_celeba", x.shape[1:3], (128, 128))
    activation = functools.partial(nn.leaky_relu, negative_slope=0.1)

    def stage(net, x, features):
      x = net._conv(
        features,
        strides=(2, 2),
        padding=((1, 1), (1, 1)),
        use_bias=False,
      )(x)
      return net._act(activation, dropout=net.dropout)(x)

    for features in (32, 64, 64, 64):
      x = self._stage(stage, x, features)
    return x.reshape(x.shape[0], -1)


mlp = Mlp
conv = Conv
resnet = Resnet
lecture_mnist = LectureMnist
lecture_celeba = LectureCeleba
