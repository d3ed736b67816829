"""Critics: networks that classify two kinds of input, by one logit.

An objective declares the critic that it needs (`objectives.base.needs`), whose
hyperparameters are `config.objective.auxiliary.args`. `training.build.model`
sets dtype and initializer; parameters and outputs are float32. Nothing depends
on the other examples of a batch, so that the two kinds of input share no
statistics.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import blocks, layers


class LatentCritic(nn.Module):
  """Fully connected layers on latents, of the size published for FactorVAE.

  Attributes:
    hidden: units of each layer.
    negative_slope: slope of the leaky ReLU after each; 0 is ReLU.

  References:
    Kim and Mnih, arXiv 1802.05983, appendix A; the logit is the difference of
    the paper's two.
  """

  hidden: tuple[int, ...] = (1000,) * 6
  negative_slope: float = 0.2
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns the logit of the first kind, of each example."""
    settings = {"dtype": self.dtype, "initializer": self.initializer}
    for features in self.hidden:
      z = layers.dense(z, features, **settings)
      z = nn.leaky_relu(z, self.negative_slope)
    return layers.dense(z, 1, **settings)[:, 0].astype(jnp.float32)


class WaeCritic(LatentCritic):
  """`LatentCritic` of the size published for the Wasserstein autoencoder.

  References:
    Tolstikhin et al., arXiv 1711.01558, appendix, on MNIST.
  """

  hidden: tuple[int, ...] = (512,) * 4
  negative_slope: float = 0.0


class ImageCritic(nn.Module):
  """Convolutions on images, with features by which two images are compared.

  The first convolution has stride 1, each of the others 2, rounding up. Between
  them are group norm, where the paper has batch norm, and an activation.

  Attributes:
    channels: channels of each convolution, from the image inwards.
    kernel_size: side of every window, in pixels.
    hidden: units of the layer between the convolutions and the logit.
    feature_layer: the convolution whose output, before its norm, is returned
      as features; 1 is the first.
    norm: "group" (up to 8 groups) or "none".
    activation: name of the function, see `blocks.activation`.

  References:
    Larsen et al., arXiv 1512.09300, the discriminator; the default
    feature_layer is the authors' choice.
  """

  channels: tuple[int, ...] = (32, 128, 256, 256)
  kernel_size: int = 5
  hidden: int = 512
  feature_layer: int = 4
  norm: str = "group"
  activation: str = "relu"
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"]
  ) -> tuple[Float[Array, " b"], Float[Array, "b f"]]:
    """Returns the logit of a real image and the features of each image in
    [0, 1]."""
    count = len(self.channels)
    if not 1 <= self.feature_layer <= count:
      raise ConfigError(
        f"config.objective.auxiliary.args.feature_layer is "
        f"{self.feature_layer}; allowed are 1 to {count}, one for each of "
        "the channels."
      )
    if self.norm not in ("group", "none"):
      raise ConfigError(
        f"config.objective.auxiliary.args.norm is {self.norm!r}; allowed are "
        "group, none."
      )
    activation = blocks.activation(self.activation)
    settings = {"dtype": self.dtype, "initializer": self.initializer}
    for i, channels in enumerate(self.channels, start=1):
      stride = 1 if i == 1 else 2
      x = layers.conv(x, channels, self.kernel_size, stride, **settings)
      if i == self.feature_layer:
        features = x.reshape(x.shape[0], -1).astype(jnp.float32)
      if self.norm == "group" and i > 1:
        x = blocks.group_norm(x, self.dtype)
      x = activation(x)
    x = x.reshape(x.shape[0], -1)
    x = activation(layers.dense(x, self.hidden, **settings))
    logit = layers.dense(x, 1, **settings)[:, 0]
    return logit.astype(jnp.float32), features
