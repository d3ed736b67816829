"""The contract of likelihoods of `uint8` images, and dequantization.

A likelihood scales the image itself and has `log_prob(image) -> [b]`, nats,
`mean` in [0, 1], `sample(key)` and `metrics(image)`; a density of pixels in
[0, 1] also has `log_density(x) -> [b]`. Densities and sums are in float32
whatever the networks use.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, UInt8

from vae_jax.distributions.normal import Keys, PerExample

Images = UInt8[Array, "b h w c"]
Pixels = Float[Array, "b h w c"]


def unit_pixels(image: Images) -> Pixels:
  """Returns image / 255."""
  return image.astype(jnp.float32) * jnp.float32(1 / 255)


def to_uint8(image: Pixels) -> Images:
  """Returns levels 0..255 of pixels in [0, 1], rounded and clipped."""
  return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)


def sum_pixels(values: Pixels) -> PerExample:
  """Returns the sum over pixels and channels of each image."""
  return jnp.sum(values, axis=(1, 2, 3))


def squared_error(image: Images, mean: Pixels) -> PerExample:
  """Returns sum (image / 255 - mean)^2 over pixels and channels."""
  return sum_pixels(jnp.square(unit_pixels(image) - mean))


class Density:
  """The methods that densities of pixels in [0, 1] share."""

  def log_prob(self, image: Images) -> PerExample:
    """Returns log p(image), nats."""
    return self.log_density(unit_pixels(image))

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns the squared error summed over pixels."""
    return {"squared_error": squared_error(image, self.mean)}


@struct.dataclass
class Dequantized:
  """A density of pixels in [0, 1] that bounds a probability of gray levels.

  With u uniform in [0, 1)^D, log P(v) >= E_u[log p((v + u) / 256)] - D log 256:
  noise fills the gaps between the 256 levels, so that the density cannot
  concentrate on them. `log_prob` returns log p at one u per image;
  `metrics.bits_per_dim` adds the constant.

  Attributes:
    density: any likelihood with `log_density`.
    noise: u, one number per pixel and channel; None where only the mean and
      samples are needed.

  References:
    Theis, van den Oord and Bethge, arXiv 1511.01844, section 3.1.
  """

  density: Any
  noise: Pixels | None

  @property
  def mean(self) -> Pixels:
    """Returns the density's mean."""
    return self.density.mean

  def log_prob(self, image: Images) -> PerExample:
    """Returns log p((image + u) / 256), nats.

    Raises:
      ValueError: there is no noise.
    """
    if self.noise is None:
      raise ValueError(
        "Dequantized pixels have no log_prob without noise: apply the model "
        "with `models.side_inputs(key=...)`, one key per image."
      )
    return self.density.log_density((image + self.noise) / 256)

  def sample(self, key: Keys) -> Images:
    """Returns the density's draws."""
    return self.density.sample(key)

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns the density's metrics of the image without noise."""
    return self.density.metrics(image)
