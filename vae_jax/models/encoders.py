"""Encoders: images in [0, 1] -> features, which a posterior's head reads.

Each class is selected by `config.model.encoder.name` (mlp, conv, resnet,
lecture_mnist, lecture_celeba); its fields are the hyperparameters. The fields
that it inherits are set by `training.build.model`.
"""

import functools

from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models import blocks, layers, network

# PyTorch's padding=1; "SAME" would shift the windows of stride 2.
_PADDING_1 = ((1, 1), (1, 1))
_leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.1)


class Mlp(network.Network):
  """Fully connected layers over the flattened image.

  Attributes:
    hidden: units of each layer.
    activation: name of the function after each, see `blocks.activation`.
  """

  hidden: tuple[int, ...] = (400,)
  activation: str = "relu"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    x = x.reshape(x.shape[0], -1)
    for features in self.hidden:
      x = self._layer(x, features)
    return x

  @network.stage
  def _layer(self, x: Float[Array, "b f"], features: int) -> Array:
    x = layers.dense(x, features, **self.settings)
    return blocks.activation(self.activation)(x)


class Conv(network.Network):
  """Convolutions of stride 2, no pooling, as in DCGAN (Radford et al. 2016).

  Each stage halves height and width, rounding up, so that images of any size
  are accepted.

  Attributes:
    channels: channels of each stage, from the image inwards.
    kernel_size: side of every window, in pixels.
    batch_norm: whether each stage is normalized.
    activation: name of the function, see `blocks.activation`.
    dropout: probability of dropping a channel, see `blocks.BatchNormAct`.
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  kernel_size: int = 3
  batch_norm: bool = True
  activation: str = "leaky_relu"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    for features in self.channels:
      x = self._halve(x, features)
    return x.reshape(x.shape[0], -1)

  @network.stage
  def _halve(self, x: Float[Array, "b h w c"], features: int) -> Array:
    # Batch norm adds a bias of its own.
    bias = not self.batch_norm
    x = layers.conv(
      x, features, self.kernel_size, stride=2, use_bias=bias, **self.settings
    )
    activation = blocks.activation(self.activation)
    return self.norm_act(x, activation, self.batch_norm, self.dropout)


class Resnet(network.Network):
  """Residual blocks at each resolution, halved by average pooling.

  Nothing depends on the other images of the batch.

  Attributes:
    channels: channels at each resolution, from the image inwards; each ends
      in a halving, rounding up.
    depth: residual blocks at each resolution.
    norm: "group" or "none".
  """

  channels: tuple[int, ...] = (32, 64, 128, 256)
  depth: int = 1
  norm: str = "group"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    x = layers.conv(x, self.channels[0], **self.settings)
    for features in self.channels:
      for _ in range(self.depth):
        x = self.residual_block(x, features, self.norm)
      x = blocks.halve(x)
    x = blocks.GroupNormSwish(self.norm, self.dtype)(x)
    return x.reshape(x.shape[0], -1)


class LectureMnist(network.Network):
  """Encoder of Raschka's STAT 453 lectures 16 and 17 for 28x28 digits."""

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    blocks.require_size("lecture_mnist", x.shape[1:3], (28, 28))
    for features, stride in ((32, 1), (64, 2), (64, 2)):
      x = self._layer(x, features, stride)
    x = layers.conv(x, 64, padding=_PADDING_1, **self.settings)
    return x.reshape(x.shape[0], -1)

  @network.stage
  def _layer(
    self, x: Float[Array, "b h w c"], features: int, stride: int
  ) -> Array:
    x = layers.conv(
      x, features, stride=stride, padding=_PADDING_1, **self.settings
    )
    return nn.leaky_relu(x)


class LectureCeleba(network.Network):
  """Encoder of Raschka's STAT 453 lecture 17 for 128x128 faces.

  Attributes:
    dropout: probability of dropping a channel.
  """

  dropout: float = 0.25

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b f"]:
    """Maps images in [0, 1] to features."""
    blocks.require_size("lecture_celeba", x.shape[1:3], (128, 128))
    for features in (32, 64, 64, 64):
      x = self._halve(x, features)
    return x.reshape(x.shape[0], -1)

  @network.stage
  def _halve(self, x: Float[Array, "b h w c"], features: int) -> Array:
    x = layers.conv(
      x, features, stride=2, padding=_PADDING_1, use_bias=False, **self.settings
    )
    return self.norm_act(x, _leaky_relu, dropout=self.dropout)
