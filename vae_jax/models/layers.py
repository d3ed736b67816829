"""Linen layers with Flax's parameters and values, fast on every platform.

`Dense`, `Conv` and `ConvTranspose` keep Flax's parameter names, shapes and
layout, so weights move freely between them and `flax.linen`'s. They differ in
speed on a CPU (see `conv_ops`) and in that the initialisation has a name.
`flax.linen.BatchNorm` and `GroupNorm` are as fast as needed and used as such.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from vae_jax.config import ConfigError
from vae_jax.models import conv_ops

Padding = str | Sequence[tuple[int, int]]


def initializers(name: str, fan_in: int) -> tuple[Callable, Callable]:
  """The kernel's and the bias's initialiser.

  Args:
    name: "flax" for LeCun's normal kernel and a zero bias, "torch" for
      PyTorch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for both, "glorot"
      for U(-a, a) with a^2 = 6 / (fan_in + fan_out) and a zero bias.
    fan_in: Number of inputs PyTorch counts for one output.

  Returns:
    (kernel initialiser, bias initialiser).

  Raises:
    ConfigError: Another name.
  """
  if name == "flax":
    return nn.initializers.lecun_normal(), nn.initializers.zeros
  if name == "torch":
    bound = 1 / math.sqrt(fan_in)

    def uniform(key, shape, dtype=jnp.float32):
      return jax.random.uniform(key, shape, dtype, -bound, bound)

    return uniform, uniform
  if name == "glorot":
    return nn.initializers.glorot_uniform(), nn.initializers.zeros
  raise ConfigError(
    f"initializer is {name!r}; allowed: 'flax', 'torch', 'glorot'."
  )


def _pad(size: int, kernel: int, stride: int, padding: Padding, axis: int):
  """(before, after) zeros of a convolution along one axis, in pixels."""
  if padding == "VALID":
    return 0, 0
  if padding == "SAME":
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
  if isinstance(padding, str):
    raise ConfigError(
      f"padding is {padding!r}; allowed: 'SAME', 'VALID' or a pair "
      "(before, after) for each image axis."
    )
  before, after = padding[axis]
  return before, after


def _pad_transposed(kernel: int, stride: int, padding: Padding, axis: int):
  """(before, after) zeros around the dilated image of a transposed one."""
  if padding == "VALID":
    total = kernel + stride - 2 + max(kernel - stride, 0)
    return kernel - 1, total - kernel + 1
  if padding == "SAME":
    total = kernel + stride - 2
    before = kernel - 1 if stride > kernel - 1 else -(-total // 2)
    return before, total - before
  return _pad(0, kernel, stride, padding, axis)


class Dense(nn.Module):
  """y = x W + b over the last axis; `flax.linen.Dense` with a named init.

  Attributes:
    features: Number of outputs.
    use_bias: Whether b is there.
    dtype: Type computed in; parameters are float32.
    initializer: Name of the initial weights, see `initializers`.
  """

  features: int
  use_bias: bool = True
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "*b f"]) -> Float[Array, "*b o"]:
    """Maps features to features."""
    kernel_init, bias_init = initializers(self.initializer, x.shape[-1])
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", kernel_init, shape)
    y = x.astype(self.dtype) @ kernel.astype(self.dtype)
    if self.use_bias:
      bias = self.param("bias", bias_init, (self.features,))
      # The explicit axes: adding arrays of different rank is an error here.
      y = y + lax.expand_dims(bias.astype(self.dtype), range(y.ndim - 1))
    return y


class Conv(nn.Module):
  """`flax.linen.Conv` in two dimensions.

  Attributes:
    features: Number of output channels.
    kernel_size: (h, w) of a window, in pixels.
    strides: Step between windows, in pixels.
    padding: "SAME", "VALID" or ((top, bottom), (left, right)) zeros.
    use_bias: Whether a bias is added.
    dtype: Type computed in; parameters are float32.
    initializer: Name of the initial weights, see `initializers`.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  strides: tuple[int, int] = (1, 1)
  padding: Padding = "SAME"
  use_bias: bool = True
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b m n o"]:
    """Convolves images."""
    image, (kh, kw) = x.shape[1:3], self.kernel_size
    kernel_init, bias_init = initializers(
      self.initializer, kh * kw * x.shape[3]
    )
    shape = (kh, kw, x.shape[3], self.features)
    kernel = self.param("kernel", kernel_init, shape)
    padding = tuple(
      _pad(image[i], self.kernel_size[i], self.strides[i], self.padding, i)
      for i in range(2)
    )
    window = conv_ops.Window(image, self.kernel_size, self.strides, padding)
    y = conv_ops.conv(x.astype(self.dtype), kernel.astype(self.dtype), window)
    if self.use_bias:
      bias = self.param("bias", bias_init, (self.features,))
      y = y + bias.astype(self.dtype)[None, None, None, :]
    return y


class ConvTranspose(nn.Module):
  """`flax.linen.ConvTranspose` in two dimensions, kernel not flipped.

  Padding (a, b) surrounds the image after its pixels were moved `strides`
  apart: PyTorch's `padding=p` is (kernel - 1 - p) on both sides, and its
  `output_padding` comes on top of the second.

  Attributes:
    features: Number of output channels.
    kernel_size: (h, w) of a window, in pixels.
    strides: Factor of enlargement.
    padding: "SAME" (size times stride), "VALID" or pairs, see above.
    use_bias: Whether a bias is added.
    dtype: Type computed in; parameters are float32.
    initializer: Name of the initial weights, see `initializers`.
  """

  features: int
  kernel_size: tuple[int, int] = (3, 3)
  strides: tuple[int, int] = (1, 1)
  padding: Padding = "SAME"
  use_bias: bool = True
  dtype: Any = jnp.float32
  initializer: str = "flax"

  @nn.compact
  def __call__(self, x: Float[Array, "b m n c"]) -> Float[Array, "b h w o"]:
    """Enlarges images."""
    kh, kw = self.kernel_size
    # PyTorch stores this kernel as (in, out, h, w) and reads its fan-in from
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
    # input, of a convolution with the kernel turned round.
    turned = jnp.flip(kernel.astype(self.dtype), (0, 1)).swapaxes(2, 3)
    y = conv_ops.conv_to_input(x.astype(self.dtype), turned, window)
    if self.use_bias:
      bias = self.param("bias", bias_init, (self.features,))
      y = y + bias.astype(self.dtype)[None, None, None, :]
    return y
