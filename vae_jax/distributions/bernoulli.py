"""Likelihoods of binary and of gray pixels by logits, in nats.

Both have the contract of `distributions.pixels`.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool

from vae_jax.distributions import pixels
from vae_jax.distributions.normal import Keys, PerExample, per_key
from vae_jax.distributions.pixels import Images, Pixels


@struct.dataclass
class Bernoulli:
  """Independent binary pixels with P(white) = sigmoid(logits).

  With x = image / 255, log p = x l - log(1 + e^l) summed over pixels. For
  x in {0, 1} that is a normalized log-probability; for gray x it is the
  negative cross-entropy, which is common but no likelihood of the gray image.
  """

  logits: Pixels

  @property
  def mean(self) -> Pixels:
    """Returns P(white)."""
    return jax.nn.sigmoid(self.logits)

  def log_prob(self, image: Images) -> PerExample:
    """Returns log p(image), nats."""
    # As rows, because over four axes, where images are repeated draw by draw,
    # this and its gradient take XLA on a CPU longer than the rest of a step.
    rows = (len(image), -1)
    x = pixels.unit_pixels(image).reshape(rows)
    logits = self.logits.reshape(rows)
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=1)

  def sample(self, key: Keys) -> Images:
    """Returns one image of 0 and 255 per key."""
    white = jax.vmap(jax.random.bernoulli)(key, self.mean)
    return white.astype(jnp.uint8) * 255

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns no metrics."""
    return {}


@struct.dataclass
class ContinuousBernoulli(pixels.Density):
  """Independent pixels with p(x) proportional to e^(l x) on [0, 1].

  This normalizes the `Bernoulli` of gray pixels:
  log p = x l - log((e^l - 1) / l) summed over pixels, the paper's
  C(lambda) lambda^x (1 - lambda)^(1 - x) with lambda = sigmoid(l).

  Attributes:
    logits: l.

  References:
    Loaiza-Ganem and Cunningham, arXiv 1907.06845.
  """

  logits: Pixels

  @property
  def mean(self) -> Pixels:
    """Returns E[x] = 1/2 + (coth(l / 2) - 2 / l) / 2, not sigmoid(l)."""
    half = 0.5 * self.logits
    near = _is_near_zero(half)
    # The branch that is not taken must be finite, and its derivative too.
    far = jnp.where(near, 1.0, half)
    square = jnp.where(near, jnp.square(half), 0.0)
    series = 1 / 3 + square * (
      -1 / 45 + square * (2 / 945 - square * (1 / 4725))
    )
    langevin = jnp.where(near, half * series, 1 / jnp.tanh(far) - 1 / far)
    return 0.5 + 0.5 * langevin

  def log_density(self, x: Pixels) -> PerExample:
    """Returns log p(x) of pixels in [0, 1], nats."""
    # Equal to the class's formula, but the normalizer is an even function of l,
    # which neither overflows nor cancels at either end.
    linear = (x - 0.5) * self.logits
    return pixels.sum_pixels(linear - _log_sinh_ratio(0.5 * self.logits))

  def sample(self, key: Keys) -> Images:
    """Returns one image per key, rounded to 0..255.

    Inverts the distribution function, x = log(1 + u (e^l - 1)) / l.
    """
    u = per_key(jax.random.uniform, key, self.logits.shape[1:])
    # x for -|l|, whose exponential cannot overflow; p is symmetric under
    # x -> 1 - x, l -> -l.
    slope = jnp.maximum(jnp.abs(self.logits), 1e-6)
    x = -jnp.log1p(u * jnp.expm1(-slope)) / slope
    return pixels.to_uint8(jnp.where(self.logits > 0, 1 - x, x))


def _is_near_zero(half: Pixels) -> Bool[Array, "b h w c"]:
  # Below 0.5 four terms of the series are exact in float32; above it the closed
  # forms lose no more than a digit.
  return jnp.abs(half) < 0.5


def _log_sinh_ratio(a: Pixels) -> Pixels:
  """Returns log(sinh(a) / a), which is 0 at 0; its derivative is exact too."""
  near = _is_near_zero(a)
  far = jnp.where(near, 1.0, jnp.abs(a))
  square = jnp.where(near, jnp.square(a), 0.0)
  series = square * (
    1 / 6 + square * (-1 / 180 + square * (1 / 2835 - square * (1 / 37800)))
  )
  closed = far + jnp.log1p(-jnp.exp(-2 * far)) - jnp.log(2 * far)
  return jnp.where(near, series, closed)
