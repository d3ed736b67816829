"""Probabilities of gray levels, in nats.

All have the contract of `distributions.pixels`. With fewer than 8 bits they are
distributions of the quantized image, with level q = floor(v / 2^(8 - bits)) of
value v: `log_prob` is the probability of q, which sums to 1 over the 2^bits
levels, and `sample` and `mean` represent level q by the lowest of its values,
q 2^(8 - bits).
"""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int32

from vae_jax.distributions import pixels
from vae_jax.distributions.normal import Keys, PerExample, per_key
from vae_jax.distributions.pixels import Images, Pixels

Levels = Int32[Array, "..."]
Reals = Float[Array, "..."]

# Below this a, log(1 - e^-a) is computed by a series.
_LOG_2 = math.log(2)
# Keeps a / a defined for a logistic so wide that a underflows.
_TINY = 1e-30


def _to_levels(image: Images, bits: int) -> Levels:
  return (image >> (8 - bits)).astype(jnp.int32)


def _from_levels(level: Levels, bits: int) -> Images:
  return (level << (8 - bits)).astype(jnp.uint8)


def _mean_pixels(level: Pixels, bits: int) -> Pixels:
  """Returns expected levels as pixels in [0, 1]."""
  return level * (2 ** (8 - bits) / 255)


def _to_grid(level: Levels, bits: int) -> Reals:
  """Returns levels as x in [-1, 1], 2 h apart with h = 1 / (2^bits - 1)."""
  last = 2**bits - 1
  # The integer is exact: one rounding, symmetric about 0.
  return (2 * level - last).astype(jnp.float32) * jnp.float32(1 / last)


def _from_grid(x: Reals, bits: int) -> Reals:
  """Returns x in [-1, 1] as levels, not rounded."""
  return 0.5 * (x + 1) * (2**bits - 1)


def _log_logistic(
  level: Levels, mean: Reals, log_scale: Reals, bits: int
) -> Reals:
  """Returns log P(level) of a rounded logistic, nats.

  With e = e^-log_scale, a = (x - mean + h) e and b = (x - mean - h) e,
  log(sigmoid(a) - sigmoid(b)) =
  log sigmoid(a) + log sigmoid(-b) + log(1 - e^(-2 h e)), which is exact. The
  lowest level has all below a, the highest all above b, so that the levels'
  probabilities sum to 1 wherever the mean lies.

  References:
    Salimans et al., arXiv 1701.05517, equation 2.
  """
  half = 1 / (2**bits - 1)
  inverse = jnp.exp(-log_scale)
  centered = _to_grid(level, bits) - mean
  # Each term and its derivatives are finite also where it is not used.
  below = jnp.where(
    level == 2**bits - 1, 0.0, jax.nn.log_sigmoid((centered + half) * inverse)
  )
  above = jnp.where(
    level == 0, 0.0, jax.nn.log_sigmoid((half - centered) * inverse)
  )
  # The level decides, because x may be rounded at the ends.
  inside = (level > 0) & (level < 2**bits - 1)
  width = _log1mexp(math.log(2 * half) - log_scale)
  return below + above + jnp.where(inside, width, 0.0)


def _log1mexp(log_a: Reals) -> Reals:
  """Returns log(1 - e^-a)."""
  a = jnp.exp(log_a)
  near = a < _LOG_2
  # The argument is log a, because a itself may underflow.
  small = jnp.where(near, a, 0.0)
  square = jnp.square(small)
  series = square * (1 / 24 + square * (-1 / 2880 + square * (1 / 181440)))
  far = jnp.log1p(-jnp.exp(-jnp.where(near, 1.0, a)))
  return jnp.where(near, log_a - 0.5 * small + series, far)


def _clipped_mean(mean: Reals, log_scale: Reals) -> Reals:
  """Returns the mean of a logistic draw clipped to [-1, 1].

  With w = 2 e^-log_scale and p = (mean + 1) w / 2 it is
  2 (softplus(p) - softplus(p - w)) / w - 1. Rounding the clipped draw moves
  the mean by at most half a level, and hardly at all once the logistic is
  wider than one.
  """
  w = jnp.maximum(2 * jnp.exp(-log_scale), _TINY)
  p = 0.5 * (mean + 1) * w
  apart = jax.nn.softplus(p) - jax.nn.softplus(p - w)
  # For wide logistics the two cancel; this is their difference as a logarithm.
  small = jnp.minimum(w, 1)
  close = -jnp.log1p(jax.nn.sigmoid(p) * jnp.expm1(-small))
  # Rounding may leave the range.
  return jnp.clip(2 * jnp.where(w > 1, apart, close) / w - 1, -1, 1)


def _round_to_level(x: Reals, bits: int) -> Levels:
  level = jnp.round(_from_grid(x, bits))
  return jnp.clip(level, 0, 2**bits - 1).astype(jnp.int32)


class _Levels:
  """The metrics of a distribution of levels, which has `bits` and `mean`."""

  def metrics(self, image: Images) -> dict[str, PerExample]:
    """Returns the squared error of the quantized image, summed over pixels."""
    quantized = _from_levels(_to_levels(image, self.bits), self.bits)
    return {"squared_error": pixels.squared_error(quantized, self.mean)}


@struct.dataclass
class Categorical(_Levels):
  """Independent pixels with a free probability for each of n levels.

  log p = sum log softmax(logits)[level].

  Attributes:
    logits: logit of each of n = 2^bits levels.

  References:
    van den Oord, Kalchbrenner and Kavukcuoglu, arXiv 1601.06759, section 2.2.
  """

  logits: Float[Array, "b h w c n"]

  @property
  def bits(self) -> int:
    """Returns log2 n."""
    return (self.logits.shape[-1] - 1).bit_length()

  @property
  def mean(self) -> Pixels:
    """Returns the expected value."""
    probability = jax.nn.softmax(self.logits)
    # No matmul: on a TPU it would round the levels to 8 bits.
    level = jnp.arange(2**self.bits, dtype=jnp.float32).reshape(1, 1, 1, 1, -1)
    return _mean_pixels(jnp.sum(probability * level, axis=-1), self.bits)

  def log_prob(self, image: Images) -> PerExample:
    """Returns log P(image), nats."""
    level = _to_levels(image, self.bits)[..., None]
    chosen = jnp.take_along_axis(self.logits, level, axis=-1)[..., 0]
    return pixels.sum_pixels(chosen - jax.nn.logsumexp(self.logits, axis=-1))

  def sample(self, key: Keys) -> Images:
    """Returns one image per key."""
    level = jax.vmap(jax.random.categorical)(key, self.logits)
    return _from_levels(level, self.bits)


@struct.dataclass
class DiscretizedLogistic(_Levels):
  """Independent pixels, each a logistic rounded and clipped to the levels.

  It is a `DiscretizedLogisticMixture` of one component whose channels are
  independent.

  Attributes:
    location: means, in units in which the levels span [-1, 1].
    log_scale: logarithms of the scales, in the same units.
    bits: 1 to 8.

  References:
    Kingma et al., arXiv 1606.04934 (inverse autoregressive flow).
  """

  location: Pixels
  log_scale: Pixels
  bits: int = struct.field(pytree_node=False, default=8)

  @property
  def mean(self) -> Pixels:
    """Returns the expected value before rounding, within half a level."""
    x = _clipped_mean(self.location, self.log_scale)
    return _mean_pixels(_from_grid(x, self.bits), self.bits)

  def log_prob(self, image: Images) -> PerExample:
    """Returns log P(image), nats."""
    level = _to_levels(image, self.bits)
    return pixels.sum_pixels(
      _log_logistic(level, self.location, self.log_scale, self.bits)
    )

  def sample(self, key: Keys) -> Images:
    """Returns one image per key."""
    noise = per_key(jax.random.logistic, key, self.location.shape[1:])
    x = self.location + jnp.exp(self.log_scale) * noise
    return _from_levels(_round_to_level(x, self.bits), self.bits)


@struct.dataclass
class DiscretizedLogisticMixture(_Levels):
  """Independent pixels, the channels of each a mixture of rounded logistics.

  log p = sum over pixels of
  logsumexp_i(log softmax(logits)_i + sum_c log P_ic(level_c)), where channel
  c of component i is a logistic, rounded and clipped to the levels, about
  location_ic + sum_(j < c) coefficient_icj x_j, where x_j are the channels
  before it, in units in which the levels span [-1, 1].

  Attributes:
    logits: log weights of the m components, up to a constant.
    location: means at x_j = 0, in those units.
    log_scale: logarithms of the scales, in those units.
    coefficients: p = c (c - 1) / 2 coefficients: for red, green and blue those
      of (green, red), (blue, red), (blue, green).
    bits: 1 to 8.

  References:
    Salimans et al., arXiv 1701.05517, sections 2.1 and 2.2.
  """

  logits: Float[Array, "b h w m"]
  location: Float[Array, "b h w c m"]
  log_scale: Float[Array, "b h w c m"]
  coefficients: Float[Array, "b h w p m"]
  bits: int = struct.field(pytree_node=False, default=8)

  def _located(self, before: list[Float[Array, "b h w _"]]) -> Array:
    """Returns the location [b h w m] of the channel after `before`."""
    channel = len(before)
    first = channel * (channel - 1) // 2
    location = self.location[..., channel, :]
    for j, x in enumerate(before):
      location += self.coefficients[..., first + j, :] * x
    return location

  @property
  def mean(self) -> Pixels:
    """Returns the expected value before rounding, approximately.

    Channels are located at the component's mean of the channels before them,
    which is exact except for draws outside of the levels, which are clipped.
    """
    means = []
    for c in range(self.location.shape[-2]):
      log_scale = self.log_scale[..., c, :]
      means.append(_clipped_mean(self._located(means), log_scale))
    weight = jax.nn.softmax(self.logits)[..., None, :]
    x = jnp.sum(weight * jnp.stack(means, axis=-2), axis=-1)
    return _mean_pixels(_from_grid(x, self.bits), self.bits)

  def log_prob(self, image: Images) -> PerExample:
    """Returns log P(image), nats."""
    level = _to_levels(image, self.bits)[..., None]
    channels = range(image.shape[-1])
    x = [_to_grid(level[..., c, :], self.bits) for c in channels]
    location = jnp.stack([self._located(x[:c]) for c in channels], axis=-2)
    channel = _log_logistic(level, location, self.log_scale, self.bits)
    joint = jax.nn.log_softmax(self.logits) + jnp.sum(channel, axis=-2)
    return jnp.sum(jax.nn.logsumexp(joint, axis=-1), axis=(1, 2))

  def sample(self, key: Keys) -> Images:
    """Returns one image per key.

    A component per pixel is drawn, then channel after channel given the levels
    before it, which is an exact draw from the distribution of `log_prob`.
    """
    shape = self.location.shape[1:-1]
    which, noise = jnp.moveaxis(jax.vmap(jax.random.split)(key), 1, 0)
    chosen = jax.vmap(jax.random.categorical)(which, self.logits)
    noise = per_key(jax.random.logistic, noise, shape)
    pick = lambda v: jnp.take_along_axis(v, chosen[..., None, None], axis=-1)
    one = self.replace(
      logits=jnp.zeros_like(self.logits[..., :1]),
      location=pick(self.location),
      log_scale=pick(self.log_scale),
      coefficients=pick(self.coefficients),
    )
    levels: list[Int32[Array, "b h w 1"]] = []
    for c in range(shape[-1]):
      before = [_to_grid(level, self.bits) for level in levels]
      scale = jnp.exp(one.log_scale[..., c, :])
      x = one._located(before) + scale * noise[..., c, None]
      levels.append(_round_to_level(x, self.bits))
    return _from_levels(jnp.concatenate(levels, axis=-1), self.bits)
