"""Decoders: latents to what the likelihood reads, without a last sigmoid.

This module is the registry: a network is selected by its name here, and its
dataclass fields are its hyperparameters.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models import blocks, layers


class Decoder(blocks.MakesLayers, nn.Module):
  """What all decoders have in common.

  Attributes:
    image_shape: (h, w) of the images to make, in pixels.
    out_channels: Outputs per pixel, as many as the likelihood asks for.
    train: Batch statistics and dropout on; nothing else changes.
    dtype: Type computed in; parameters and outputs are float32.
    initializer: "flax", "glorot" or "torch", see `layers.initializers`.
    axis_name: Device axis of the global batch, for batch norm.
    remat: Recompute each stage in the backward pass, to save memory.
  """

  image_shape: tuple[int, int]
  out_channels: int
  train: bool = False
  dtype: Any = jnp.float32
  initializer: str = "flax"
  axis_name: str | None = None
  remat: bool = False

  def _dense(self, features: int) -> layers.Dense:
    return layers.Dense(
      features, dtype=self.dtype, initializer=self.initializer
    )

  def _image(self, z: Array, h: int, w: int, c: int) -> Array:
    return self._dense(h * w * c)(z).reshape(z.shape[0], h, w, c)

  def _up(self, features: int, **kwargs) -> layers.ConvTranspose:
    return layers.ConvTranspose(
      features, dtype=self.dtype, initializer=self.initializer, **kwargs
    )


class Mlp(Decoder):
  """Fully connected layers.

  Attributes:
    hidden: Units of each layer, from the latent outwards.
    activation: Name of the function after each, see `blocks.activation`.
  """

  hidden: tuple[int, ...] = (400,)
  activation: str = "relu"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    activation = blocks.activation(self.activation)

    def stage(net, z, features):
      return activation(net._dense(features)(z))

    for features in self.hidden:
      z = self._stage(stage, z, features)
    x = self._image(z, *self.image_shape, self.out_channels)
    return x.astype(jnp.float32)


class Conv(Decoder):
  """Transposed convolutions of stride 2, the mirror of `encoders.Conv`.

  Each stage doubles height and width and crops them to the size the encoder
  had there, so that any size comes out.

  Attributes:
    channels: As the encoder's: from the image inwards.
    kernel_size: Side of every window, in pixels.
    batch_norm: Whether each stage but the last is normalised.
    activation: Name of the function, see `blocks.activation`.
    dropout: Probability of dropping a channel, see `blocks.BatchNormAct`.
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  kernel_size: int = 3
  batch_norm: bool = True
  activation: str = "leaky_relu"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    activation = blocks.activation(self.activation)
    *sizes, smallest = blocks.halved_sizes(self.image_shape, len(self.channels))
    x = self._image(z, *smallest, self.channels[-1])
    up = functools.partial(
      Conv._up,
      kernel_size=(self.kernel_size, self.kernel_size),
      strides=(2, 2),
    )

    def stage(net, x, features, h, w):
      x = up(net, features, use_bias=not net.batch_norm)(x)[:, :h, :w]
      return net._act(
        activation, batch_norm=net.batch_norm, dropout=net.dropout
      )(x)

    inner = zip(self.channels[:-1], sizes[1:], strict=True)
    for features, size in reversed(list(inner)):
      x = self._stage(stage, x, features, *size)
    h, w = self.image_shape
    return up(self, self.out_channels)(x)[:, :h, :w].astype(jnp.float32)


class Resnet(Decoder):
  """Residual blocks at each resolution, enlarged by repeating pixels.

  Nothing depends on the other images of the batch.

  Attributes:
    channels: As the encoder's: from the image inwards.
    depth: Residual blocks at each resolution.
    norm: "group" or "none".
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  depth: int = 1
  norm: str = "group"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    *sizes, smallest = blocks.halved_sizes(self.image_shape, len(self.channels))
    x = self._image(z, *smallest, self.channels[-1])
    stages = list(zip(self.channels, sizes, strict=True))
    for features, (h, w) in reversed(stages):
      x = blocks.double(x)[:, :h, :w]
      for _ in range(self.depth):
        x = self._stage(blocks.residual, x, features)
    x = blocks.GroupNormSwish(self.norm, self.dtype)(x)
    return self._conv(self.out_channels)(x).astype(jnp.float32)


class LectureMnist(Decoder):
  """Decoder of Raschka's STAT 453 lectures 16 and 17 for 28x28 digits.

  Sizes 7, 7, 13, 27, 29; the last row and column are cut off.
  """

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    blocks.require_size("lecture_mnist", self.image_shape, (28, 28))
    one, none = ((1, 1), (1, 1)), ((2, 2), (2, 2))  # PyTorch's padding 1, 0.

    def stage(net, x, features, stride, padding):
      up = net._up(features, strides=(stride, stride), padding=padding)
      return nn.leaky_relu(up(x))

    x = self._image(z, 7, 7, 64)
    for settings in ((64, 1, one), (64, 2, one), (32, 2, none)):
      x = self._stage(stage, x, *settings)
    x = self._up(self.out_channels, padding=none)(x)
    return x[:, :28, :28].astype(jnp.float32)


class LectureCeleba(Decoder):
  """Decoder of Raschka's STAT 453 lecture 17 for 128x128 faces.

  Sizes 8, 17, 33, 65, 129; the last row and column are cut off.

  Attributes:
    dropout: Probability of dropping a channel.
  """

  dropout: float = 0.25

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    blocks.require_size("lecture_celeba", self.image_shape, (128, 128))
    activation = functools.partial(nn.leaky_relu, negative_slope=0.1)
    one, none = ((1, 1), (1, 1)), ((2, 2), (2, 2))  # PyTorch's padding 1, 0.

    def stage(net, x, features, padding):
      x = net._up(features, strides=(2, 2), padding=padding)(x)
      return net._act(activation, dropout=net.dropout)(x)

    x = self._image(z, 8, 8, 64)
    for settings in ((64, none), (64, one), (32, one)):
      x = self._stage(stage, x, *settings)
    x = self._up(self.out_channels, strides=(2, 2), padding=one)(x)
    return x[:, :128, :128].astype(jnp.float32)


class LectureCelebaUpsample(Decoder):
  """The lecture's decoder with repeated pixels, free of checkerboards.

  As many parameters as `LectureCeleba`: each transposed convolution becomes a
  doubling by repetition and a convolution of stride 1.

  Attributes:
    dropout: Probability of dropping a channel.
  """

  dropout: float = 0.25

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to raw outputs."""
    blocks.require_size("lecture_celeba_upsample", self.image_shape, (128, 128))
    activation = functools.partial(nn.leaky_relu, negative_slope=0.1)

    def stage(net, x, features):
      x = net._conv(features)(blocks.double(x))
      return net._act(activation, dropout=net.dropout)(x)

    x = self._image(z, 8, 8, 64)
    for features in (64, 64, 32):
      x = self._stage(stage, x, features)
    x = self._conv(self.out_channels)(blocks.double(x))
    return x.astype(jnp.float32)


mlp = Mlp
conv = Conv
resnet = Resnet
lecture_mnist = LectureMnist
lecture_celeba = LectureCeleba
lecture_celeba_upsample = LectureCelebaUpsample
