"""Likelihoods p(x | z): a decoder's outputs -> a distribution of the image.

Each class is selected by `config.model.likelihood.name`:

  name                          pixels                      numbers per channel
  bernoulli                     binary                      1, the logit
  continuous_bernoulli          in [0, 1]                   1, the logit
  gaussian                      in [0, 1]                   1
  gaussian_learned              in [0, 1]                   1
  gaussian_optimal              in [0, 1]                   1
  laplace                       in [0, 1]                   1
  categorical256                2^bits levels               2^bits
  discretized_logistic          2^bits levels               2
  discretized_logistic_mixture  2^bits levels               see its num_outputs

`training.build.model` sets image_channels, train and axis_name; the other
fields are hyperparameters. A class has
  num_outputs(channels)  the numbers per pixel that it reads, where that is not
                         one per channel
  is_density             whether it is a density of pixels in [0, 1]
  bits                   1 to 8, those of a probability of 2^bits gray levels:
                         below 8 it is that of the image quantized to
                         floor(value / 2^(8 - bits)), whose nats are not
                         comparable with those of 8 bits

The mean of a normal or Laplace likelihood is sigmoid(output), because pixels
lie in [0, 1].
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.config import ConfigError

# Of a decoder.
Outputs = Float[Array, "b h w o"]

# Weight of the old value in the running variance.
_MOMENTUM = 0.99
# Log scale of the narrowest logistic, in units in which pixels span [-1, 1]: an
# eighth of the distance of 8-bit levels.
_MIN_LOG_SCALE = -7.0


def _check_positive(name: str, value: float | int) -> None:
  if not value > 0:
    raise ConfigError(
      f"config.model.likelihood.args.{name} is {value}; it must be above 0."
    )


def _check_bits(bits: int) -> None:
  if not 1 <= bits <= 8:
    raise ConfigError(
      f"config.model.likelihood.args.bits is {bits}; it must be 1 to 8."
    )


def _bounded(log_sigma: Float[Array, ""]) -> Float[Array, ""]:
  """Returns a log deviation that does not fall below that of `MIN_SIGMA`; its
  gradient never vanishes, so that it can rise again."""
  start = math.log(distributions.MIN_SIGMA) + 1
  below = start - 1 + jnp.exp(jnp.minimum(log_sigma - start, 0))
  return jnp.where(log_sigma > start, log_sigma, below)


class Bernoulli(nn.Module):
  """Independent binary pixels."""

  is_density: ClassVar[bool] = False

  def __call__(self, outputs: Outputs) -> distributions.Bernoulli:
    """Returns the likelihood of each example."""
    return distributions.Bernoulli(outputs)


class Gaussian(nn.Module):
  """Normal pixels with a fixed standard deviation.

  Attributes:
    sigma: standard deviation of pixels in [0, 1]. sqrt(1/2) makes the
      distortion the summed squared error, up to a constant.
  """

  is_density: ClassVar[bool] = True

  sigma: float = math.sqrt(0.5)

  def __call__(self, outputs: Outputs) -> distributions.Normal:
    """Returns the likelihood of each example."""
    _check_positive("sigma", self.sigma)
    log_sigma = jnp.float32(math.log(self.sigma))
    return distributions.Normal(jax.nn.sigmoid(outputs), log_sigma)


class GaussianLearned(nn.Module):
  """Normal pixels with one standard deviation, initially sigma, learned with
  the weights.

  It is exp(log_sigma) above t = e MIN_SIGMA = 0.0031, and below it falls to
  `distributions.MIN_SIGMA` = 0.0011, but no further:
  log sigma = log t - 1 + exp(log_sigma - log t).
  """

  is_density: ClassVar[bool] = True

  sigma: float = 0.3

  @nn.compact
  def __call__(self, outputs: Outputs) -> distributions.Normal:
    """Returns the likelihood of each example."""
    least = math.e * distributions.MIN_SIGMA
    if not self.sigma > least:
      raise ConfigError(
        f"config.model.likelihood.args.sigma is {self.sigma}; it must be above "
        f"{least:.4f}, because a learned one stays above "
        f"{distributions.MIN_SIGMA:.4f}, the rounding error of gray levels."
      )
    start = nn.initializers.constant(math.log(self.sigma))
    log_sigma = _bounded(self.param("log_sigma", start, ()))
    return distributions.Normal(jax.nn.sigmoid(outputs), log_sigma)


class GaussianOptimal(nn.Module):
  """Normal pixels with the best standard deviation for each batch, at least
  `distributions.MIN_SIGMA` = 0.0011.

  See `distributions.CalibratedNormal`.

  References:
    Rybkin et al., arXiv 2006.13202 (sigma-VAE).
  """

  is_density: ClassVar[bool] = True

  train: bool = False
  axis_name: str | None = None

  @nn.compact
  def __call__(self, outputs: Outputs) -> distributions.CalibratedNormal:
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


class Laplace(nn.Module):
  """Laplace pixels with a fixed scale.

  Attributes:
    scale: mean absolute deviation of pixels in [0, 1]. 1 makes the distortion
      the summed absolute error, up to a constant.
  """

  is_density: ClassVar[bool] = True

  scale: float = 1.0

  def __call__(self, outputs: Outputs) -> distributions.Laplace:
    """Returns the likelihood of each example."""
    _check_positive("scale", self.scale)
    log_scale = jnp.float32(math.log(self.scale))
    return distributions.Laplace(jax.nn.sigmoid(outputs), log_scale)


class ContinuousBernoulli(nn.Module):
  """Normalized Bernoulli of gray pixels."""

  is_density: ClassVar[bool] = True

  def __call__(self, outputs: Outputs) -> distributions.ContinuousBernoulli:
    """Returns the likelihood of each example."""
    return distributions.ContinuousBernoulli(outputs)


class Categorical256(nn.Module):
  """A free probability for each level of each pixel and channel.

  With 8 bits the outputs of 128 images of 64x64x3 take 1.6 GB, and the
  gradient several times as much.
  """

  is_density: ClassVar[bool] = False

  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel, 2^bits per channel."""
    _check_bits(self.bits)
    return channels * 2**self.bits

  def __call__(self, outputs: Outputs) -> distributions.Categorical:
    """Returns the likelihood of each example."""
    shape = (*outputs.shape[:-1], -1, 2**self.bits)
    return distributions.Categorical(outputs.reshape(shape))


class DiscretizedLogistic(nn.Module):
  """A rounded logistic per pixel and channel, by mean and log scale."""

  is_density: ClassVar[bool] = False

  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel, 2 per channel."""
    _check_bits(self.bits)
    return 2 * channels

  def __call__(self, outputs: Outputs) -> distributions.DiscretizedLogistic:
    """Returns the likelihood of each example."""
    location, log_scale = jnp.split(outputs, 2, axis=-1)
    return distributions.DiscretizedLogistic(
      location, jnp.maximum(log_scale, _MIN_LOG_SCALE), self.bits
    )


class DiscretizedLogisticMixture(nn.Module):
  """A mixture of rounded logistics per pixel.

  Each channel depends on the channels before it, see
  `distributions.DiscretizedLogisticMixture`.

  Attributes:
    num_mixtures: number m of components. A gray pixel takes 3 m numbers, an
      RGB pixel 10 m.

  References:
    Salimans et al., arXiv 1701.05517 (PixelCNN++).
  """

  is_density: ClassVar[bool] = False

  image_channels: int
  num_mixtures: int = 10
  bits: int = 8

  @nn.nowrap
  def num_outputs(self, channels: int) -> int:
    """Returns the numbers per pixel.

    Each component has a logit, 2 numbers per channel, and a coefficient for
    each pair of channels.
    """
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
