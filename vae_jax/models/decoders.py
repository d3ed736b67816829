"""Decoders: latents -> outputs that a likelihood reads, without a sigmoid.

Each class is selected by `config.model.decoder.name` (mlp, conv, resnet,
lecture_mnist, lecture_celeba, lecture_celeba_upsample); its fields are the
hyperparameters. The fields that it inherits are set by `training.build.model`.
"""

import functools
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models import blocks, layers, network

Pads = tuple[tuple[int, int], ...]
# PyTorch's padding=1 and padding=0 of a transposed convolution.
_PADDING_1, _PADDING_0 = ((1, 1), (1, 1)), ((2, 2), (2, 2))
_leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.1)


class Mlp(network.Decoder):
  """Fully connected layers.

  Attributes:
    hidden: units of each layer, from the latents outwards.
    activation: name of the function after each, see `blocks.activation`.
  """

  hidden: tuple[int, ...] = (400,)
  activation: str = "relu"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to outputs."""
    for features in self.hidden:
      z = self._layer(z, features)
    x = self.to_map(z, *self.image_shape, self.out_channels)
    return x.astype(jnp.float32)

  @network.stage
  def _layer(self, z: Float[Array, "b d"], features: int) -> Array:
    z = layers.dense(z, features, **self.settings)
    return blocks.activation(self.activation)(z)


class Conv(network.Decoder):
  """Transposed convolutions of stride 2, the mirror of `encoders.Conv`.

  Each stage doubles height and width and crops them to the size that the
  encoder had there, so that images of any size can be made.

  Attributes:
    channels: as the encoder's: from the image inwards.
    kernel_size: side of every window, in pixels.
    batch_norm: whether each stage but the last is normalized.
    activation: name of the function, see `blocks.activation`.
    dropout: probability of dropping a channel, see `blocks.BatchNormAct`.
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  kernel_size: int = 3
  batch_norm: bool = True
  activation: str = "leaky_relu"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to outputs."""
    *sizes, smallest = blocks.halved_sizes(self.image_shape, len(self.channels))
    x = self.to_map(z, *smallest, self.channels[-1])
    stages = zip(self.channels[:-1], sizes[1:], strict=True)
    for features, size in reversed(list(stages)):
      x = self._double(x, features, size)
    h, w = self.image_shape
    x = self.conv_transpose(x, self.out_channels, self.kernel_size, stride=2)
    return x[:, :h, :w].astype(jnp.float32)

  @network.stage
  def _double(
    self, x: Float[Array, "b h w c"], features: int, size: tuple[int, int]
  ) -> Array:
    # Batch norm adds a bias of its own.
    bias = not self.batch_norm
    x = self.conv_transpose(
      x, features, self.kernel_size, stride=2, use_bias=bias
    )
    x = x[:, : size[0], : size[1]]
    activation = blocks.activation(self.activation)
    return self.norm_act(x, activation, self.batch_norm, self.dropout)


class Resnet(network.Decoder):
  """Residual blocks at each resolution, enlarged by repeating pixels.

  Nothing depends on the other images of the batch.

  Attributes:
    channels: as the encoder's: from the image inwards.
    depth: residual blocks at each resolution.
    norm: "group" or "none".
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  depth: int = 1
  norm: str = "group"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to outputs."""
    *sizes, smallest = blocks.halved_sizes(self.image_shape, len(self.channels))
    x = self.to_map(z, *smallest, self.channels[-1])
    stages = zip(self.channels, sizes, strict=True)
    for features, (h, w) in reversed(list(stages)):
      x = blocks.double(x)[:, :h, :w]
      for _ in range(self.depth):
        x = self.residual_block(x, features, self.norm)
    x = blocks.GroupNormSwish(self.norm, self.dtype)(x)
    x = layers.conv(x, self.out_channels, **self.settings)
    return x.astype(jnp.float32)


class LectureMnist(network.Decoder):
  """Decoder of Raschka's STAT 453 lectures 16 and 17 for 28x28 digits.

  Sizes are 7, 7, 13, 27, 29; the last row and column are cropped.
  """

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to outputs."""
    blocks.require_size("lecture_mnist", self.image_shape, (28, 28))
    x = self.to_map(z, 7, 7, 64)
    x = self._layer(x, 64, 1, _PADDING_1)
    x = self._layer(x, 64, 2, _PADDING_1)
    x = self._layer(x, 32, 2, _PADDING_0)
    x = self.conv_transpose(x, self.out_channels, padding=_PADDING_0)
    return x[:, :28, :28].astype(jnp.float32)

  @network.stage
  def _layer(
    self, x: Float[Array, "b h w c"], features: int, stride: int, pad: Pads
  ) -> Array:
    x = self.conv_transpose(x, features, stride=stride, padding=pad)
    return nn.leaky_relu(x)


class LectureCeleba(network.Decoder):
  """Decoder of Raschka's STAT 453 lecture 17 for 128x128 faces.

  Sizes are 8, 17, 33, 65, 129; the last row and column are cropped.

  Attributes:
    dropout: probability of dropping a channel.
  """

  config_name: ClassVar[str] = "lecture_celeba"

  dropout: float = 0.25

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, "b h w o"]:
    """Maps latents to outputs."""
    blocks.require_size(self.config_name, self.image_shape, (128, 128))
    x = self.to_map(z, 8, 8, 64)
    x = self._stage(x, 64, _PADDING_0)
    x = self._stage(x, 64, _PADDING_1)
    x = self._stage(x, 32, _PADDING_1)
    x = self._double(x, self.out_channels, _PADDING_1)
    return x[:, :128, :128].astype(jnp.float32)

  @network.stage
  def _stage(
    self, x: Float[Array, "b h w c"], features: int, pad: Pads
  ) -> Array:
    x = self._double(x, features, pad)
    return self.norm_act(x, _leaky_relu, dropout=self.dropout)

  def _double(
    self, x: Float[Array, "b h w c"], features: int, pad: Pads
  ) -> Array:
    return self.conv_transpose(x, features, stride=2, padding=pad)


class LectureCelebaUpsample(LectureCeleba):
  """The lecture's decoder with repeated pixels, free of checkerboards.

  It has as many parameters as `LectureCeleba`: each transposed convolution
  becomes a doubling by repetition and a convolution of stride 1.
  """

  config_name: ClassVar[str] = "lecture_celeba_upsample"

  def _double(
    self, x: Float[Array, "b h w c"], features: int, pad: Pads
  ) -> Array:
    del pad
    return layers.conv(blocks.double(x), features, **self.settings)
