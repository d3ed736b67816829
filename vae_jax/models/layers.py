"""Flax's layers with named initializers and convolutions fast on a CPU.

`dense` and `conv` apply `flax.linen.Dense` and `Conv` inside a compact method.
`ConvTranspose` has the parameters and values of Flax's, which accepts no other
convolution. `dtype` is the type of the computation; parameters are float32.
`initializer` is a name, see `initializers`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import conv_ops

Padding = str | Sequence[tuple[int, int]]


def initializers(
  name: str, fan_in: int
) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
  """Returns the initializers of a kernel and of a bias.

  Args:
    name: "flax" for LeCun's normal kernel and a zero bias, "glorot" for
      Glorot's uniform kernel and a zero bias, "torch" for PyTorch's default,
      U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for both.
    fan_in: number of inputs that PyTorch counts for one output.

  Raises:
    ConfigError: the name is unknown.
  """
  if name == "flax":
    return nn.initializers.lecun_normal(), nn.initializers.zeros
  if name == "glorot":
    return nn.initializers.glorot_uniform(), nn.initializers.zeros
  if name == "torch":
    bound = 1 / math.sqrt(fan_in)

    def uniform(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform, uniform
  raise ConfigError(
    f"initializer is {name!r}; allowed: 'flax', 'glorot', 'torch'."
  )


def dense(
  x: Float[Array, "*b f"],
  features: int,
  *,
  use_bias: bool = True,
  dtype: DTypeLike = jnp.float32,
  initializer: str = "flax",
) -> Float[Array, "*b o"]:
  """Applies a new `flax.linen.Dense` of the calling module."""
  kernel_init, bias_init = initializers(initializer, x.shape[-1])
  layer = nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=kernel_init,
    bias_init=bias_init,
  )
  return layer(x)


def conv(
  x: Float[Array, "b h w c"],
  features: int,
  kernel_size: int = 3,
  stride: int = 1,
  *,
  padding: Padding = "SAME",
  use_bias: bool = True,
  dtype: DTypeLike = jnp.float32,
  initializer: str = "flax",
) -> Float[Array, "b m n o"]:
  """Applies a new `flax.linen.Conv` of the calling module.

  Args:
    kernel_size: side of a window, in pixels.
    stride: step between windows, in pixels.
    padding: "SAME", "VALID" or zeros ((top, bottom), (left, right)).
  """
  fan_in = kernel_size**2 * x.shape[-1]
  kernel_init, bias_init = initializers(initializer, fan_in)
  layer = nn.Conv(
    features,
    (kernel_size, kernel_size),
    stride,
    padding=padding,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=kernel_init,
    bias_init=bias_init,
    conv_general_dilated_cls=lambda: conv_ops.conv_general_dilated,
  )
  return layer(x)


def _pad_transposed(
  kernel: int, stride: int, padding: Padding, axis: int
) -> tuple[int, int]:
  """Returns the zeros (before, after) around the dilated image."""
  if padding == "VALID":
    total = kernel + stride - 2 + max(kernel - stride, 0)
    return kernel - 1, total - kernel + 1
  if padding == "SAME":
    total = kernel + stride - 2
    before = kernel - 1 if stride > kernel - 1 else -(-total // 2)
    return before, total - before
  if isinstance(padding, str):
    raise ConfigError(
      f"padding is {padding!r}; allowed: 'SAME', 'VALID' or a pair "
      "(before, after) for each image axis."
    )
  before, after = padding[axis]
  return before, after


class ConvTranspose(nn.Module):
  """`flax.linen.ConvTranspose` in two dimensions, kernel not flipped.

  Padding (a, b) surrounds the image after its pixels were moved `strides`
  apart: PyTorch's `padding=p` is (kernel - 1 - p) on both sides, and its
  `output_padding` is added to the second.

  Attributes:
    kernel_size: (h, w) of a window, in pixels.
    strides: factor of enlargement.
    padding: "SAME" (size times stride), "VALID" or pairs, see above.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  strides: tuple[int, int] = (1, 1)
  padding: Padding = "SAME"
  use_bias: bool = True
  dtype: DTypeLike = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "b m n c"]) -> Float[Array, "b h w o"]:
    """Enlarges images."""
    kh, kw = self.kernel_size
    # PyTorch stores this kernel as (in, out, h, w) and takes its fan-in from
    # the second axis, which here is the output.
    kernel_init, bias_init = initializers(
      self.initializer, kh * kw * self.features
    )
    shape = (kh, kw, x.shape[3], self.features)
    kernel = self.param("kernel", kernel_init, shape)
    image, padding = [], []
    for i, (k, s) in enumerate(
      zip(self.kernel_size, self.strides, strict=True)
    ):
      before, after = _pad_transposed(k, s, self.padding, i)
      image.append((x.shape[i + 1] - 1) * s + before + after - k + 2)
      padding.append((k - 1 - before, k - 1 - after))
    window = conv_ops.Window(
      tuple(image), self.kernel_size, self.strides, tuple(padding)
    )
    # The convolution of the dilated image is the transpose, towards the
    # input, of a convolution with the kernel rotated by 180 degrees.
    rotated = jnp.flip(kernel.astype(self.dtype), (0, 1)).swapaxes(2, 3)
    y = conv_ops.conv_to_input(x.astype(self.dtype), rotated, window)
    if self.use_bias:
      bias = self.param("bias", bias_init, (self.features,))
      y = y + bias.astype(self.dtype)[None, None, None, :]
    return y
