"""Critics: networks that tell two kinds of input apart, by one logit.

An objective declares one beside itself (see `objectives.terms.needs`); its
fields are `config.objective.auxiliary.args`. Nothing in them depends on the
other examples of a batch, so that a critic judges each input alone and has no
statistics that two kinds of input would have to share.
"""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import blocks, layers


class LatentCritic(nn.Module):
  """Fully connected layers on latents, of the size published for FactorVAE.

  Attributes:
    hidden: Units of each layer.
    negative_slope: Of the leaky ReLU after each; 0 is ReLU.
    dtype: Type computed in; parameters and the logit are float32.
    initializer: "flax", "glorot" or "torch", see `layers.initializers`.

  References:
    Kim and Mnih, arXiv 1802.05983, appendix A; the logit is the difference of
    the two there.
  """

  hidden: tuple[int, ...] = (1000,) * 6
  negative_slope: float = 0.2
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns the logit of each example's being of the first kind."""
    for features in self.hidden:
      z = nn.leaky_relu(self._dense(features)(z), self.negative_slope)
    return self._dense(1)(z)[:, 0].astype(jnp.float32)

  def _dense(self, features: int) -> layers.Dense:
    return layers.Dense(
      features, dtype=self.dtype, initializer=self.initializer
    )


class WaeCritic(LatentCritic):
  """`LatentCritic` of the size published for the Wasserstein autoencoder.

  References:
    Tolstikhin et al., arXiv 1711.01558, appendix, on MNIST.
  """

  hidden: tuple[int, ...] = (512,) * 4
  negative_slope: float = 0.0


class ImageCritic(nn.Module):
  """Convolutions on images, with a layer whose features compare two of them.

  The first keeps the image's size, each further one halves it, rounding up.
  Between them are group norm, where the paper has batch norm, and an
  activation.

  Attributes:
    channels: Channels of each convolution, from the image inwards.
    kernel_size: Side of every window, in pixels.
    hidden: Units of the layer between the convolutions and the logit.
    feature_layer: The convolution whose output, before its norm, is returned
      as features; 1 is the first.
    norm: "group" (up to 8 groups) or "none".
    activation: Name of the function, see `blocks.activation`.
    dtype: Type computed in; parameters and outputs are float32.
    initializer: "flax", "glorot" or "torch", see `layers.initializers`.

  References:
    Larsen et al., arXiv 1512.09300, the discriminator; the
    default layer is the one that its authors compare in.
  """

  channels: tuple[int, ...] = (32, 128, 256, 256)
  kernel_size: int = 5
  hidden: int = 512
  feature_layer: int = 4
  norm: str = "group"
  activation: str = "relu"
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"]
  ) -> tuple[Float[Array, " b"], Float[Array, "b f"]]:
    """Returns the logit of each image's being real, and its features.

    Args:
      x: Images in [0, 1].

    Raises:
      ConfigError: There is no such layer, or no such norm.
    """
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
      conv = layers.Conv(
        channels,
        kernel_size=(self.kernel_size, self.kernel_size),
        strides=(stride, stride),
        **settings,
      )
      x = conv(x)
      if i == self.feature_layer:
        features = x.reshape(x.shape[0], -1).astype(jnp.float32)
      if self.norm == "group" and i > 1:
        groups = math.gcd(8, channels)
        x = nn.GroupNorm(groups, epsilon=1e-5, dtype=self.dtype)(x)
      x = activation(x)
    x = x.reshape(x.shape[0], -1)
    x = activation(layers.Dense(self.hidden, **settings)(x))
    logit = layers.Dense(1, **settings)(x)[:, 0]
    return logit.astype(jnp.float32), features
