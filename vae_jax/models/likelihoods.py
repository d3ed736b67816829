"""From a decoder's outputs to p(x | z), selected by name.

Class names are what `config.model.likelihood.name` takes. Each says by
`num_outputs(channels)` how many numbers per pixel it reads, where that is not
one per channel, and by `is_density` whether it gives a density of pixels in
[0, 1]. The mean of a normal likelihood is sigmoid(output), since pixels lie in
[0, 1].
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


def _check_sigma(value: float) -> None:
  if not value > 0:
    raise ConfigError(
      f"config.model.likelihood.args.sigma is {value}; it must be above 0."
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
    _check_sigma(self.sigma)
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
    _check_sigma(self.sigma)
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
