"""Likelihoods of `uint8` images, in nats.

Each reads the image, does its own scaling, and has `log_prob(image) -> [b]`,
`mean` (in [0, 1]), `sample(key)` and `metrics(image)`. Densities and sums are
in float32 whatever the networks use.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key, UInt8

from vae_jax.distributions.normal import LOG_2PI


def unit_pixels(image: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """Returns image / 255."""
  return image.astype(jnp.float32) * jnp.float32(1 / 255)


def to_uint8(image: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
  """Returns pixels of [0, 1] as levels, rounded and clipped to 0..255."""
  return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)


def sum_pixels(values: Float[Array, "b h w c"]) -> Float[Array, " b"]:
  """Returns the sum over pixels and channels of each image."""
  return jnp.sum(values, axis=(1, 2, 3))


def squared_error(
  image: UInt8[Array, "b h w c"], mean: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """Returns sum (image / 255 - mean)^2 over pixels and channels."""
  return sum_pixels(jnp.square(unit_pixels(image) - mean))


@jax.custom_jvp
def _softplus(x: Float[Array, "b n"]) -> Float[Array, "b n"]:
  """Returns log(1 + e^x)."""
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals: tuple, tangents: tuple) -> tuple:
  # The value and its derivative, sigmoid(x), share one exponential: against
  # jax.nn.softplus 4% of a step of a small network on a CPU.
  (x,), (dx,) = primals, tangents
  small = jnp.exp(-jnp.abs(x))
  value = jnp.maximum(x, 0) + jnp.log1p(small)
  return value, jnp.where(x >= 0, 1, small) / (1 + small) * dx


@struct.dataclass
class Bernoulli:
  """Independent binary pixels with P(white) = sigmoid(logits).

  With x = image / 255, log p = x l - log(1 + e^l) summed over pixels. For
  x in {0, 1} that is a normalised log-probability; for grey x it is the
  negative cross-entropy, common but no likelihood of the grey image.
  """

  logits: Float[Array, "b h w c"]

  @property
  def mean(self) -> Float[Array, "b h w c"]:
    """P(white)."""
    return jax.nn.sigmoid(self.logits)

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats."""
    # In rows: over four axes, where images are repeated draw by draw, this and
    # its gradient take XLA on a CPU longer than the whole rest of a step.
    rows = (len(image), -1)
    x = unit_pixels(image).reshape(rows)
    logits = self.logits.reshape(rows)
    return jnp.sum(x * logits - _softplus(logits), axis=1)

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image of 0 and 255 per key."""
    white = jax.vmap(jax.random.bernoulli)(key, self.mean)
    return white.astype(jnp.uint8) * 255

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns nothing beyond the log-probability."""
    del image
    return {}


@struct.dataclass
class Normal:
  """Independent pixels N(mean, sigma^2) of x = image / 255, one sigma for all.

  log p = -sum (x - mean)^2 / (2 sigma^2) - D log sigma - D/2 log 2 pi, the
  density of x in [0, 1]^D. With sigma^2 = 1/2 it is minus the summed squared
  error, up to D/2 log pi.
  """

  mean: Float[Array, "b h w c"]
  log_sigma: Float[Array, ""]

  def log_density(self, x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(x) of pixels in [0, 1], nats."""
    dims = math.prod(self.mean.shape[1:])
    error = sum_pixels(jnp.square(x - self.mean))
    scaled = 0.5 * jnp.exp(-2 * self.log_sigma) * error
    return -scaled - dims * (self.log_sigma + 0.5 * LOG_2PI)

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats."""
    return self.log_density(unit_pixels(image))

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded and clipped to 0..255."""
    shape = self.mean.shape[1:]
    noise = jax.vmap(lambda k: jax.random.normal(k, shape))(key)
    return to_uint8(self.mean + jnp.exp(self.log_sigma) * noise)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels, and sigma."""
    error = squared_error(image, self.mean)
    sigma = jnp.exp(self.log_sigma)
    return {
      "squared_error": error,
      "sigma": jnp.broadcast_to(sigma, error.shape),
    }


@struct.dataclass
class CalibratedNormal:
  """`Normal` whose variance is the best one for the batch, in closed form.

  sigma^2 = mean over the global batch and all pixels of (x - mean)^2. A
  variance fitted to the image it judges is no likelihood, so that evaluation
  uses the running average that training left behind.

  Attributes:
    mean: means of the pixels.
    running_variance: average of sigma^2 over training steps.
    record: given the batch's sigma^2 in training; None in evaluation.
    axis_name: mapped axis over which the global batch lies; None = none.

  References:
    Rybkin et al., arXiv 2006.13202, equation 5.
  """

  mean: Float[Array, "b h w c"]
  running_variance: Float[Array, ""]
  record: Callable[[Float[Array, ""]], None] | None = struct.field(
    pytree_node=False, default=None
  )
  axis_name: str | None = struct.field(pytree_node=False, default=None)

  def _normal(self, x: Float[Array, "b h w c"] | None) -> Normal:
    if self.record is None or x is None:
      return Normal(self.mean, 0.5 * jnp.log(self.running_variance))
    variance = jnp.mean(jnp.square(x - self.mean))
    if self.axis_name is not None:
      variance = jax.lax.pmean(variance, self.axis_name)
    # The best variance leaves no gradient to follow; through it, the draws of
    # a batch would have a hand in each other's.
    variance = jax.lax.stop_gradient(variance)
    return Normal(self.mean, 0.5 * jnp.log(variance))

  def log_density(self, x: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(x), x in [0, 1]; records the variance in training."""
    normal = self._normal(x)
    if self.record is not None:
      self.record(jax.lax.stop_gradient(jnp.exp(2 * normal.log_sigma)))
    return normal.log_density(x)

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats; records the variance in training."""
    return self.log_density(unit_pixels(image))

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded and clipped to 0..255."""
    return self._normal(None).sample(key)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels, and sigma."""
    return self._normal(unit_pixels(image)).metrics(image)


@struct.dataclass
class Dequantized:
  """A density of pixels in [0, 1] as a bound on a probability of grey levels.

  With u uniform in [0, 1)^D, log P(v) >= E_u[log p((v + u) / 256)] - D log 256:
  noise fills the gaps between the 256 levels, so that the density cannot pile
  up on them. `log_prob` gives log p at one u per image; the constant is left
  to `metrics.bits_per_dim`.

  Attributes:
    density: any likelihood with `log_density`.
    noise: u, one number per pixel and channel; None where nothing but the
      mean and samples are asked for.

  References:
    Theis, van den Oord and Bethge, arXiv 1511.01844, section 3.1.
  """

  density: Any
  noise: Float[Array, "b h w c"] | None

  @property
  def mean(self) -> Float[Array, "b h w c"]:
    """The density's mean."""
    return self.density.mean

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p((image + u) / 256), nats.

    Raises:
      ValueError: there is no noise.
    """
    if self.noise is None:
      raise ValueError(
        "Dequantised pixels have no log_prob without noise: apply the model "
        "with `models.given(key=...)`, one key per image."
      )
    return self.density.log_density((image + self.noise) / 256)

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns the density's draws."""
    return self.density.sample(key)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the density's metrics of the image without noise."""
    return self.density.metrics(image)
