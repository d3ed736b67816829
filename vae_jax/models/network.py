"""The base classes of encoders and decoders."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vae_jax.models import blocks, layers

F = TypeVar("F", bound=Callable[..., Array])


def stage(method: F) -> F:
  """Marks a method of a network as a unit that `remat` recomputes.

  With `remat` the backward pass keeps only the array x of the method, a
  function of (self, x, *settings) that applies new layers. Names and values of
  parameters, and the results, are the same either way.
  """

  @nn.nowrap
  @functools.wraps(method)
  def run(self: nn.Module, x: Array, *settings: Any) -> Array:
    if not self.remat:
      return method(self, x, *settings)
    # The settings are closed over because they are no arrays.
    return nn.remat(lambda net, x: method(net, x, *settings))(self, x)

  return run


class Network(nn.Module):
  """Settings and layers that encoders and decoders share.

  Attributes:
    train: whether batch norm uses the batch's statistics and dropout drops.
    dtype: type of the computation; parameters are float32.
    initializer: see `layers.initializers`.
    axis_name: device axis of the global batch, for batch norm.
    remat: whether each stage is recomputed in the backward pass, which takes
      less memory and more time.
  """

  train: bool = False
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"
  axis_name: str | None = None
  remat: bool = False

  @property
  def settings(self) -> dict[str, Any]:
    """Returns the arguments that all layers share."""
    return {"dtype": self.dtype, "initializer": self.initializer}

  def conv_transpose(
    self,
    x: Float[Array, "b h w c"],
    features: int,
    kernel_size: int = 3,
    stride: int = 1,
    **options: Any,
  ) -> Float[Array, "b m n o"]:
    """Applies a new transposed convolution, see `layers.ConvTranspose`."""
    sizes = (kernel_size, kernel_size), (stride, stride)
    options = self.settings | options
    return layers.ConvTranspose(features, *sizes, **options)(x)

  def norm_act(
    self,
    x: Float[Array, "b h w c"],
    activation: Callable[[Array], Array],
    batch_norm: bool = True,
    dropout: float = 0.0,
  ) -> Float[Array, "b h w c"]:
    """Applies a new `blocks.BatchNormAct`."""
    layer = blocks.BatchNormAct(
      activation,
      batch_norm,
      dropout,
      train=self.train,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    return layer(x)

  @stage
  def residual_block(
    self, x: Float[Array, "b h w c"], features: int, norm: str
  ) -> Float[Array, "b h w o"]:
    """Applies a new `blocks.ResidualBlock`."""
    return blocks.ResidualBlock(features, norm, **self.settings)(x)


class Decoder(Network, kw_only=True):
  """The base class of decoders; outputs are float32.

  Attributes:
    image_shape: (h, w) of the images, in pixels.
    out_channels: outputs per pixel, the number that the likelihood reads.
  """

  image_shape: tuple[int, int]
  out_channels: int

  def to_map(
    self, z: Float[Array, "b d"], h: int, w: int, c: int
  ) -> Float[Array, "b h w c"]:
    """Maps latents to an image of c channels by a dense layer."""
    x = layers.dense(z, h * w * c, **self.settings)
    return x.reshape(z.shape[0], h, w, c)
