"""Normal and Laplace likelihoods of pixels in [0, 1], in nats.

All have the contract of `distributions.pixels`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from vae_jax.distributions import pixels
from vae_jax.distributions.normal import LOG_2PI, Keys, PerExample, per_key
from vae_jax.distributions.pixels import Images, Pixels

# The deviation of rounding to 256 levels, 0.00113. A narrower normal describes
# less than the pixels hold, and its density has no bound: on images without
# noise a learned deviation would shrink until a step overflows.
MIN_SIGMA = 1 / (255 * math.sqrt(12))


@struct.dataclass
class Normal(pixels.Density):
  """Independent pixels N(mean, sigma^2) of x = image / 255, one sigma for all.

  log p = -sum (x - mean)^2 / (2 sigma^2) - D log sigma - D/2 log 2 pi, the
  density of x in [0, 1]^D. With sigma^2 = 1/2 it is minus the summed squared
  error, up to D/2 log pi.
  """

  mean: Pixels
  log_sigma: Float[Array, ""]

  def log_density(self, x: Pixels) -> PerExample:
    """Returns log p(x) of pixels in [0, 1], nats."""
    dims = math.prod(self.mean.shape[1:])
    error = pixels.sum_pixels(jnp.square(x - self.mean))
    scaled = 0.5 * jnp.exp(-2 * self.log_sigma) * error
    return -scaled - dims * (self.log_sigma + 0.5 * LOG_2PI)

  def sample(self, key: Keys) -> Images:
    """Returns one image per key, rounded and clipped to 0..255."""
    noise = per_key(jax.random.normal, key, self.mean.shape[1:])
    return pixels.to_uint8(self.mean + jnp.exp(self.log_sigma) * noise)

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns the squared error summed over pixels, and sigma."""
    sigma = jnp.broadcast_to(jnp.exp(self.log_sigma), len(image))
    return super().metrics(image) | {"sigma": sigma}


@struct.dataclass
class CalibratedNormal(pixels.Density):
  """`Normal` whose variance is the best one for the batch, in closed form.

  sigma^2 = mean over the global batch and all pixels of (x - mean)^2, or
  `MIN_SIGMA`^2 if that is larger. With a variance fitted to the evaluated image
  this is no likelihood, so that evaluation uses the running average of
  training.

  Attributes:
    mean: means of the pixels.
    running_variance: average of sigma^2 over training steps.
    record: function called with the batch's sigma^2 in training; None in
      evaluation.
    axis_name: mapped axis of the global batch; None = none.

  References:
    Rybkin et al., arXiv 2006.13202, equation 5.
  """

  mean: Pixels
  running_variance: Float[Array, ""]
  record: Callable[[Float[Array, ""]], None] | None = struct.field(
    pytree_node=False, default=None
  )
  axis_name: str | None = struct.field(pytree_node=False, default=None)

  def _normal(self, x: Pixels | None) -> Normal:
    if self.record is None or x is None:
      return self._of_variance(self.running_variance)
    variance = jnp.mean(jnp.square(x - self.mean))
    if self.axis_name is not None:
      variance = jax.lax.pmean(variance, self.axis_name)
    # At the best variance its gradient is 0; without stop_gradient the draws of
    # a batch would influence each other's gradients.
    return self._of_variance(jax.lax.stop_gradient(variance))

  def _of_variance(self, variance: Float[Array, ""]) -> Normal:
    variance = jnp.maximum(variance, MIN_SIGMA**2)
    return Normal(self.mean, 0.5 * jnp.log(variance))

  def log_density(self, x: Pixels) -> PerExample:
    """Returns log p(x), x in [0, 1]; records the variance in training."""
    normal = self._normal(x)
    if self.record is not None:
      self.record(jax.lax.stop_gradient(jnp.exp(2 * normal.log_sigma)))
    return normal.log_density(x)

  def sample(self, key: Keys) -> Images:
    """Returns one image per key, rounded and clipped to 0..255."""
    return self._normal(None).sample(key)

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns the squared error summed over pixels, and sigma."""
    return self._normal(pixels.unit_pixels(image)).metrics(image)


@struct.dataclass
class Laplace(pixels.Density):
  """Independent pixels of x = image / 255 with one scale for all.

  log p = -sum |x - mean| / scale - D log(2 scale), scale = exp(log_scale).
  With scale 1 it is minus the summed absolute error, up to D log 2.
  """

  mean: Pixels
  log_scale: Float[Array, ""]

  def log_density(self, x: Pixels) -> PerExample:
    """Returns log p(x) of pixels in [0, 1], nats."""
    dims = math.prod(self.mean.shape[1:])
    error = pixels.sum_pixels(jnp.abs(x - self.mean))
    normalizer = dims * (self.log_scale + math.log(2))
    return -jnp.exp(-self.log_scale) * error - normalizer

  def sample(self, key: Keys) -> Images:
    """Returns one image per key, rounded and clipped to 0..255."""
    noise = per_key(jax.random.laplace, key, self.mean.shape[1:])
    return pixels.to_uint8(self.mean + jnp.exp(self.log_scale) * noise)
