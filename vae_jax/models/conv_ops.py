"""Two-dimensional convolution, fast on every platform.

XLA's convolution gradients on a CPU run 5 to 15 times below the speed of its
matrix products, so there a convolution is written as one: copy the window of
every output pixel into a row (`_patches`), then multiply. Accelerators get
XLA's own convolutions. The platform is chosen at lowering time, so that one
exported program runs on each of them.

A convolution is bilinear, and so are its two gradients; each of the three is
the gradient of the other two. Since all three are defined below, reverse mode
may be nested to any depth. Forward mode (`jax.jvp`) is not provided.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Size of the rows of `_patches` that are in memory at a time. They repeat every
# pixel several times, so that those of a batch would not fit into the cache;
# this size measured fastest.
_CACHE_BYTES = 5_000_000

Function = Callable[..., Array]


class Window(NamedTuple):
  """Geometry of a convolution, one entry per image axis.

  Attributes:
    image: (h, w) of the convolution's input, in pixels.
    kernel: window size, in pixels.
    strides: step between windows, in pixels.
    padding: zeros added (before, after), in pixels; negative crops.
  """

  image: tuple[int, int]
  kernel: tuple[int, int]
  strides: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]

  @property
  def output(self) -> tuple[int, int]:
    """Returns (h, w) of the convolution's output, in pixels."""
    axes = zip(self.image, self.kernel, self.strides, self.padding, strict=True)
    h, w = ((n + sum(pad) - k) // s + 1 for n, k, s, pad in axes)
    return h, w


def _patches(
  x: Float[Array, "b h w c"], window: Window
) -> Float[Array, "b m n p"]:
  """Copies each window into one row: p = (kernel row, kernel column, c)."""
  b, _, _, c = x.shape
  (kh, kw), (sh, sw) = window.kernel, window.strides
  m, n = window.output
  # Padded to whole strides, a strided tap is a plain slice of a reshape.
  rows, cols = m + (kh - 1) // sh, n + (kw - 1) // sw
  (top, _), (left, _) = window.padding
  h, w = window.image
  below, right = rows * sh - h - top, cols * sw - w - left
  pads = (0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0)
  x = lax.pad(x, jnp.zeros((), x.dtype), pads)
  # Neighboring taps of a row are contiguous in memory: one copy takes all that
  # share a stride.
  x = x.reshape(b, rows * sh, cols, sw * c)
  columns = [
    x[:, :, j // sw : j // sw + n, : min(sw, kw - j) * c]
    for j in range(0, kw, sw)
  ]
  x = jnp.concatenate(columns, axis=-1).reshape(b, rows, sh, n, kw * c)
  taps = [x[:, i // sh : i // sh + m, i % sh] for i in range(kh)]
  x = jnp.stack(taps, axis=3)
  return x.reshape(b, m, n, kh * kw * c)


def _overlap_add(
  taps: list[Array], axis: int, size: int, stride: int, pad: int
) -> Array:
  """Adds tap i of window r to pixel `r * stride + i - pad` along an axis."""
  windows = taps[0].shape[axis]
  length = -(-size // stride)
  zero = jnp.zeros((), taps[0].dtype)
  phases = []
  for phase in range(stride):
    total = None
    for i in range((phase + pad) % stride, len(taps), stride):
      shift = (i - pad - phase) // stride
      config = [(0, 0, 0)] * taps[i].ndim
      config[axis] = (shift, length - windows - shift, 0)
      moved = lax.pad(taps[i], zero, config)
      total = moved if total is None else total + moved
    if total is None:
      shape = list(taps[0].shape)
      shape[axis] = length
      total = jnp.zeros(shape, taps[0].dtype)
    phases.append(total)
  out = jnp.stack(phases, axis + 1)
  shape = list(phases[0].shape)
  shape[axis] = length * stride
  return lax.slice_in_dim(out.reshape(shape), 0, size, axis=axis)


def _scatter(
  p: Float[Array, "b m n p"], window: Window
) -> Float[Array, "b h w c"]:
  """Adds each row back to its window: the transpose of `_patches`."""
  b, m, n, _ = p.shape
  kh, kw = window.kernel
  p = p.reshape(b, m, n, kh, kw, -1)
  (h, w), (sh, sw), ((top, _), (left, _)) = window.image, *window[2:]
  columns = []
  for j in range(kw):
    taps = [p[:, :, :, i, j] for i in range(kh)]
    columns.append(_overlap_add(taps, 1, h, sh, top))
  return _overlap_add(columns, 2, w, sw, left)


def _native(x: Array, kernel: Array, window: Window) -> Array:
  order = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(
    x, kernel, window.strides, window.padding, dimension_numbers=order
  )


def _transposed(
  fun: Function, shape: tuple[Any, ...], gradient: Array
) -> Array:
  argument = jax.ShapeDtypeStruct(shape, gradient.dtype)
  return jax.linear_transpose(fun, argument)(gradient)[0]


def _native_to_input(g: Array, kernel: Array, window: Window) -> Array:
  shape = (g.shape[0], *window.image, kernel.shape[2])
  return _transposed(lambda x: _native(x, kernel, window), shape, g)


def _native_to_kernel(x: Array, g: Array, window: Window) -> Array:
  shape = (*window.kernel, x.shape[3], g.shape[3])
  return _transposed(lambda k: _native(x, k, window), shape, g)


def _in_float32(fun: Function) -> Function:
  """Computes in float32, because CPUs have no faster type."""

  @functools.wraps(fun)
  def wrapped(a, b, window):
    dtype = jnp.result_type(a, b)
    wide = jnp.promote_types(dtype, jnp.float32)
    return fun(a.astype(wide), b.astype(wide), window).astype(dtype)

  return wrapped


def _pieces(batch: Any, window: Window, channels: int) -> int:
  """Returns into how many micro-batches to split so that rows fit the cache."""
  m, n = window.output
  kh, kw = window.kernel
  if not isinstance(batch, int) or (kh, kw) == (1, 1):
    return 1  # A symbolic size (`jax.export`), or rows that are the image.
  count = -(-4 * batch * m * n * kh * kw * channels // _CACHE_BYTES)
  return next((i for i in range(count, batch) if batch % i == 0), batch)


def _split(x: Array, pieces: int) -> Array:
  return x.reshape(pieces, x.shape[0] // pieces, *x.shape[1:])


def _map(fun: Function, x: Array, pieces: int) -> Array:
  """Applies `fun` to one micro-batch after the other."""
  if pieces == 1:
    return fun(x)
  y = lax.map(fun, _split(x, pieces))
  return y.reshape(x.shape[0], *y.shape[2:])


@_in_float32
def _product(x: Array, kernel: Array, window: Window) -> Array:
  matrix = kernel.reshape(-1, kernel.shape[3])

  def part(x):
    p = _patches(x, window)
    rows = p.reshape(-1, p.shape[3]) @ matrix
    return rows.reshape(*p.shape[:3], -1)

  return _map(part, x, _pieces(x.shape[0], window, x.shape[3]))


@_in_float32
def _product_to_input(g: Array, kernel: Array, window: Window) -> Array:
  matrix = kernel.reshape(-1, kernel.shape[3]).T

  def part(g):
    rows = g.reshape(-1, g.shape[3]) @ matrix
    return _scatter(rows.reshape(*g.shape[:3], -1), window)

  return _map(part, g, _pieces(g.shape[0], window, kernel.shape[2]))


@_in_float32
def _product_to_kernel(x: Array, g: Array, window: Window) -> Array:
  def part(x, g):
    p = _patches(x, window)
    return p.reshape(-1, p.shape[3]).T @ g.reshape(-1, g.shape[3])

  pieces = _pieces(x.shape[0], window, x.shape[3])
  if pieces == 1:
    total = part(x, g)
  else:
    parts = _split(x, pieces), _split(g, pieces)
    size = math.prod(window.kernel) * x.shape[3]
    total, _ = lax.scan(
      lambda total, xg: (total + part(*xg), None),
      jnp.zeros((size, g.shape[3]), x.dtype),
      parts,
    )
  return total.reshape(*window.kernel, x.shape[3], g.shape[3])


def _choose(cpu: Function, default: Function, *arguments: Any) -> Array:
  *arrays, window = arguments
  cpu, default = (functools.partial(f, window=window) for f in (cpu, default))
  return lax.platform_dependent(*arrays, cpu=cpu, default=default)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(
  x: Float[Array, "b h w c"], kernel: Float[Array, "i j c o"], window: Window
) -> Float[Array, "b m n o"]:
  """Convolves (cross-correlates) every image with a kernel.

  y[b, r, q, o] = sum_{i,j,c} x[b, r s + i - pad, q s + j - pad, c] k[i,j,c,o]
  """
  return _choose(_product, _native, x, kernel, window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_to_input(
  g: Float[Array, "b m n o"], kernel: Float[Array, "i j c o"], window: Window
) -> Float[Array, "b h w c"]:
  """Applies the transpose of `conv` in `x`: its gradient, or an enlargement."""
  return _choose(_product_to_input, _native_to_input, g, kernel, window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_to_kernel(
  x: Float[Array, "b h w c"], g: Float[Array, "b m n o"], window: Window
) -> Float[Array, "i j c o"]:
  return _choose(_product_to_kernel, _native_to_kernel, x, g, window)


def _save(fun: Function) -> Callable[..., Any]:
  return lambda a, b, window: (fun(a, b, window), (a, b))


def _conv_bwd(window, saved, g):
  x, kernel = saved
  return conv_to_input(g, kernel, window), _conv_to_kernel(x, g, window)


def _conv_to_input_bwd(window, saved, x):
  g, kernel = saved
  return conv(x, kernel, window), _conv_to_kernel(x, g, window)


def _conv_to_kernel_bwd(window, saved, kernel):
  x, g = saved
  return conv_to_input(g, kernel, window), conv(x, kernel, window)


conv.defvjp(_save(conv), _conv_bwd)
conv_to_input.defvjp(_save(conv_to_input), _conv_to_input_bwd)
_conv_to_kernel.defvjp(_save(_conv_to_kernel), _conv_to_kernel_bwd)


def conv_general_dilated(
  lhs: Float[Array, "b h w c"],
  rhs: Float[Array, "i j c o"],
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **settings: Any,
) -> Float[Array, "b m n o"]:
  """Applies `conv` with the signature by which `flax.linen.Conv` calls lax's.

  Padding is "SAME", "VALID" or zeros (before, after) of each image axis. Other
  settings have Flax's defaults: no dilation, no groups.
  """
  del settings
  image, kernel = lhs.shape[1:3], rhs.shape[:2]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(image, kernel, window_strides, padding)
  pads = tuple(tuple(pad) for pad in padding)
  return conv(lhs, rhs, Window(image, kernel, tuple(window_strides), pads))
