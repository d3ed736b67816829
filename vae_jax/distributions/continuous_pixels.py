"""Densities of pixels in [0, 1] other than the normal ones, in nats.

The contract is that of `distributions.pixels`; `log_density(x)` takes pixels
in [0, 1], so that `Dequantized` can fill the gaps between grey levels.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key, UInt8

from vae_jax.distributions import pixels


@struct.dataclass
class Laplace:
  """Independent pixels of x = image / 255 with one scale for all.

  log p = -sum |x - mean| / scale - D log(2 scale), scale = exp(log_scale).
  With scale 1 it is minus the summed absolute error, up to D log 2.
  """

  mean: Float[Array, "b h w c"]
  log_scale: Float[Array, ""]

  def log_density(self, x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(x) of pixels in [0, 1], nats."""
    dims = math.prod(self.mean.shape[1:])
    error = pixels.sum_pixels(jnp.abs(x - self.mean))
    normaliser = dims * (self.log_scale + math.log(2))
    return -jnp.exp(-self.log_scale) * error - normaliser

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats."""
    return self.log_density(pixels.unit_pixels(image))

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded and clipped to 0..255."""
    shape = self.mean.shape[1:]
    noise = jax.vmap(lambda k: jax.random.laplace(k, shape))(key)
    return pixels.to_uint8(self.mean + jnp.exp(self.log_scale) * noise)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels."""
    return {"squared_error": pixels.squared_error(image, self.mean)}


@struct.dataclass
class ContinuousBernoulli:
  """Independent pixels with p(x) proportional to e^(l x) on [0, 1].

  The normalised form of what `Bernoulli` gives for grey pixels:
  log p = x l - log((e^l - 1) / l) summed over pixels, the paper's
  C(lambda) lambda^x (1 - lambda)^(1 - x) with lambda = sigmoid(l).

  Attributes:
    logits: l.

  References:
    Loaiza-Ganem and Cunningham, arXiv 1907.06845.
  """

  logits: Float[Array, "b h w c"]

  @property
  def mean(self) -> Float[Array, "b h w c"]:
    """E[x] = 1/2 + (coth(l / 2) - 2 / l) / 2, which is not sigmoid(l)."""
    half = 0.5 * self.logits
    near = _is_near_zero(half)
    # Where the other branch is taken, neither value nor derivative may be nan.
    far = jnp.where(near, 1.0, half)
    square = jnp.where(near, jnp.square(half), 0.0)
    series = 1 / 3 + square * (
      -1 / 45 + square * (2 / 945 - square * (1 / 4725))
    )
    langevin = jnp.where(near, half * series, 1 / jnp.tanh(far) - 1 / far)
    return 0.5 + 0.5 * langevin

  def log_density(self, x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(x) of pixels in [0, 1], nats."""
    # The same as in the class's formula, with the normaliser an even function
    # of l: nothing overflows, and nothing cancels at either end.
    linear = (x - 0.5) * self.logits
    return pixels.sum_pixels(linear - _log_sinh_ratio(0.5 * self.logits))

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats."""
    return self.log_density(pixels.unit_pixels(image))

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded to 0..255.

    The distribution function inverted, x = log(1 + u (e^l - 1)) / l.
    """
    shape = self.logits.shape[1:]
    u = jax.vmap(lambda k: jax.random.uniform(k, shape))(key)
    # x for -|l|, whose exponential cannot overflow; p is symmetric under
    # x -> 1 - x, l -> -l.
    slope = jnp.maximum(jnp.abs(self.logits), 1e-6)
    x = -jnp.log1p(u * jnp.expm1(-slope)) / slope
    return pixels.to_uint8(jnp.where(self.logits > 0, 1 - x, x))

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels."""
    return {"squared_error": pixels.squared_error(image, self.mean)}


def _is_near_zero(half: Float[Array, "b h w c"]) -> Array:
  # Below it four terms of the series are exact in float32; above it the
  # closed forms lose no more than a digit.
  return jnp.abs(half) < 0.5


def _log_sinh_ratio(a: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """Returns log(sinh(a) / a), which is 0 at 0, with its derivative."""
  near = _is_near_zero(a)
  far = jnp.where(near, 1.0, jnp.abs(a))
  square = jnp.where(near, jnp.square(a), 0.0)
  series = square * (
    1 / 6 + square * (-1 / 180 + square * (1 / 2835 - square * (1 / 37800)))
  )
  closed = far + jnp.log1p(-jnp.exp(-2 * far)) - jnp.log(2 * far)
  return jnp.where(near, series, closed)
