"""From a decoder's outputs to p(x | z), selected by name.

Class names are what `config.model.likelihood.name` takes. Each says by
`num_outputs(channels)` how many numbers per pixel it reads, where that is not
one per channel, and by `is_density` whether it gives a density of pixels in
[0, 1]. A probability of grey levels says by `bits` of how many: with fewer than
8 it is that of the image quantised to floor(value / 2^(8 - bits)), and its nats
are not comparable with those of 8. The mean of a normal or Laplace likelihood
is sigmoid(output), since pixels lie in [0, 1].
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.config import ConfigError

# Share of the old value that the running variance keeps in each step.
_MOMENTUM = 0.99
# The narrowest logistic, in units in which pixels span [-1, 1]: an eighth of
# the distance of 8-bit levels.
_MIN_LOG_SCALE = -7.0


def _check_positive(name: str, value: int | float) -> None:
  if not value > 0:
    raise ConfigError(
      f"config.model.likelihood.args.{name} is {value}; it must be above 0."
    )


def _check_bits(bits: int) -> None:
  if not 1 <= bits <= 8:
    raise ConfigError(
      f"config.model.likelihood.args.bits is {bits}; it must be 1 to 8."
    )


class bernoulli(nn.Module):
  """Independent binary pixels, by logits."""

  is_density: ClassVar[bool] = False

  def __call__(
    self, outputs: Float[Array, "b h w c"]
  ) -> distributions.Bernoulli:
    """Returns the likelihood of each example."""
    return distributions.Bernoulli(outputs)


class gaussian(nn.Module):
  """Normal pixels with a fixed standard deviation.

  Attributes:
    sigma: standard deviation of pixels in [0, 1]. sqrt(1/2) makes the
      distortion the summed squared error, up to a constant.
  """

  is_density: ClassVar[bool] = True

  sigma: float = math.sqrt(0.5)

  def __call__(self, outputs: Float[Array, "b h w c"]) -> distributions.Normal:
    """Returns the likelihood of each example."""
    _check_positive("sigma", self.sigma)
    log_sigma = jnp.float32(math.log(self.sigma))
    return distributions.Normal(jax.nn.sigmoid(outputs), log_sigma)


class gaussian_learned(nn.Module):
  """Normal pixels with one standard deviation, learned with the weights.

  Attributes:
    sigma: its initial value.
  """

  is_density: ClassVar[bool] = True

  sigma: float = 0.3

  @nn.compact
  def __call__(self, outputs: Float[Array, "b h w c"]) -> distributions.Normal:
    """Returns the likelihood of each example."""
    _check_positive("sigma", self.sigma)
    start = nn.initializers.constant(math.log(self.sigma))
    log_sigma = self.param("log_sigma", start, ())
    return distributions.Normal(jax.nn.sigmoid(outputs), log_sigma)


class gaussian_optimal(nn.Module):
  """Normal pixels with the best standard deviation for each batch.

  See `distributions.CalibratedNormal`.

  References:
    Rybkin et al., arXiv 2006.13202 (sigma-VAE).
  """

  is_density: ClassVar[bool] = True

  train: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, outputs: Float[Array, "b h w c"]
  ) -> distributions.CalibratedNormal:
    """Returns the likelihood of each example."""
    zero = lambda: jnp.zeros((), jnp.float32)  # noqa: E731
    total = self.variable("batch_stats", "variance", zero)
    weight = self.variable("batch_stats", "weight", zero)

    def record(variance: Float[Array, ""]) -> None:
      total.value = _MOMENTUM * total.value + (1 - _MOMENTUM) * variance
      weight.value = _MOMENTUM * weight.value + (1 - _MOMENTUM)

    # Before the first step there is no average; 1 keeps the density finite.
    started = weight.value > 0
    running = jnp.where(
      started, total.value / jnp.where(started, weight.value, 1), 1.0
    )
    update = self.train and not self.is_initializing()
    return distributions.CalibratedNormal(
      jax.nn.sigmoid(outputs),
      running,
      record if update else None,
      self.axis_name if update else None,
    )


class laplace(nn.Module):
  """Laplace pixels with a fixed scale.

  Attributes:
    scale: mean absolute deviation of pixels in [0, 1]. 1 makes the distortion
      the summed absolute error, up to a constant.
  """

  is_density: ClassVar[bool] = True

  scale: float = 1.0

  def __call__(self, outputs: Float[Array, "b h w c"]) -> distributions.Laplace:
    """Returns the likelihood of each example."""
    _check_positive("scale", self.scale)
    log_scale = jnp.float32(math.log(self.scale))
    return distributions.Laplace(jax.nn.sigmoid(outputs), log_scale)


class continuous_bernoulli(nn.Module):
  """Bernoulli of grey pixels with its normaliser, by logits."""

  is_density: ClassVar[bool] = True

  def __call__(
    self, outputs: Float[Array, "b h w c"]
  ) -> distributions.ContinuousBernoulli:
    """Returns the likelihood of each example."""
    return distributions.ContinuousBernoulli(outputs)


class categorical256(nn.Module):
  """A free probability for each level of each pixel and channel.

  Heavy: with 8 bits the outputs of 128 images of 64x64x3 are 1.6 GB, and the
  gradient takes them several times over.

  Attributes:
    bits: 1 to 8; of 2^bits levels.
  """

  is_density: ClassVar[bool] = False

  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel, 2^bits per channel."""
    _check_bits(self.bits)
    return channels * 2**self.bits

  def __call__(
    self, outputs: Float[Array, "b h w o"]
  ) -> distributions.Categorical:
    """Returns the likelihood of each example."""
    shape = (*outputs.shape[:-1], -1, 2**self.bits)
    return distributions.Categorical(outputs.reshape(shape))


class discretized_logistic(nn.Module):
  """A rounded logistic per pixel and channel: its mean and its log scale.

  Attributes:
    bits: 1 to 8; of 2^bits levels.
  """

  is_density: ClassVar[bool] = False

  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel, 2 per channel."""
    _check_bits(self.bits)
    return 2 * channels

  def __call__(
    self, outputs: Float[Array, "b h w o"]
  ) -> distributions.DiscretizedLogistic:
    """Returns the likelihood of each example."""
    location, log_scale = jnp.split(outputs, 2, axis=-1)
    return distributions.DiscretizedLogistic(
      location, jnp.maximum(log_scale, _MIN_LOG_SCALE), self.bits
    )


class discretized_logistic_mixture(nn.Module):
  """A mixture of rounded logistics per pixel, each channel seeing the last.

  See `distributions.DiscretizedLogisticMixture`.

  Attributes:
    num_mixtures: components m. A pixel takes 3 m numbers if grey, 10 m if
      red, green and blue.
    bits: 1 to 8; of 2^bits levels.

  References:
    Salimans et al., arXiv 1701.05517 (PixelCNN++).
  """

  is_density: ClassVar[bool] = False

  image_channels: int
  num_mixtures: int = 10
  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel: for each component its logit, 2 per
    channel, and a coefficient for each pair of channels."""
    _check_bits(self.bits)
    _check_positive("num_mixtures", self.num_mixtures)
    pairs = channels * (channels - 1) // 2
    return self.num_mixtures * (1 + 2 * channels + pairs)

  def __call__(
    self, outputs: Float[Array, "b h w o"]
  ) -> distributions.DiscretizedLogisticMixture:
    """Returns the likelihood of each example."""
    channels = self.image_channels
    rows = outputs.reshape(*outputs.shape[:-1], -1, self.num_mixtures)
    logits, location, log_scale, coefficients = jnp.split(
      rows, (1, 1 + channels, 1 + 2 * channels), axis=-2
    )
    return distributions.DiscretizedLogisticMixture(
      logits[..., 0, :],
      location,
      jnp.maximum(log_scale, _MIN_LOG_SCALE),
      jnp.tanh(coefficients),
      self.bits,
    )
