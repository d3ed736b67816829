"""Densities, KL divergences and samplers, in nats.

Each distribution is a small frozen struct. A latent one has
`sample(key [b]) -> [b d]`, `log_prob(z) -> [b]` and `kl(other) -> [b]`; a
likelihood reads `uint8` images, does its own scaling, and has
`log_prob(image) -> [b]`, `mean` (in [0, 1]), `sample(key)` and
`metrics(image)`. Densities and sums are in float32 whatever the networks use.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key, UInt8

from vae_jax.config import ConfigError

LOG_2PI = math.log(2 * math.pi)


def _normal(key: Key[Array, " b"], dim: int) -> Float[Array, "b d"]:
  return jax.vmap(lambda k: jax.random.normal(k, (dim,)))(key)


@struct.dataclass
class StandardNormal:
  """N(0, I) in `dim` dimensions."""

  dim: int = struct.field(pytree_node=False)

  def sample(
    self, key: Key[Array, " b"], temperature: float | jax.Array = 1.0
  ) -> Float[Array, "b d"]:
    """Returns one draw per key, with standard deviation `temperature`."""
    return temperature * _normal(key, self.dim)

  def log_prob(self, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns -1/2 sum_j (z_j^2 + log 2 pi), nats."""
    return -0.5 * jnp.sum(jnp.square(z) + LOG_2PI, axis=-1)


@struct.dataclass
class DiagonalNormal:
  """N(mean, diag(exp(log_variance))), one per example."""

  mean: Float[Array, "b d"]
  log_variance: Float[Array, "b d"]

  def sample(self, key: Key[Array, " b"]) -> Float[Array, "b d"]:
    """Returns mean + exp(log_variance / 2) * noise, differentiable in both.

    References:
      Kingma and Welling, arXiv 1312.6114, section 2.4.
    """
    noise = _normal(key, self.mean.shape[-1])
    return self.mean + jnp.exp(0.5 * self.log_variance) * noise

  def log_prob(self, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns sum_j log N(z_j; mean_j, variance_j), nats."""
    square = jnp.square(z - self.mean) * jnp.exp(-self.log_variance)
    return -0.5 * jnp.sum(square + self.log_variance + LOG_2PI, axis=-1)

  def kl(self, prior: Any) -> Float[Array, " b"]:
    """Returns KL(self || prior), nats; see `kl_per_dimension`."""
    return jnp.sum(self.kl_per_dimension(prior), axis=-1)

  def kl_per_dimension(self, prior: Any) -> Float[Array, "b d"]:
    """Returns each dimension's part of KL(self || prior), nats.

    With variances s^2 = exp(log_variance), for a standard normal prior
    1/2 (mean^2 + s^2 - 1 - log s^2), in general
    1/2 (((mean - m)^2 + s^2) / p^2 - 1 - log s^2 + log p^2).

    References:
      Kingma and Welling, arXiv 1312.6114, appendix B.

    Raises:
      ConfigError: no closed form is known for this prior.
    """
    # expm1 keeps the small difference s^2 - 1 - log s^2 exact near s = 1.
    if isinstance(prior, StandardNormal):
      spread = jnp.expm1(self.log_variance) - self.log_variance
      return 0.5 * (jnp.square(self.mean) + spread)
    if isinstance(prior, DiagonalNormal):
      ratio = self.log_variance - prior.log_variance
      square = jnp.square(self.mean - prior.mean) * jnp.exp(-prior.log_variance)
      return 0.5 * (square + jnp.expm1(ratio) - ratio)
    raise ConfigError(
      f"There is no closed form of KL(DiagonalNormal || "
      f"{type(prior).__name__}); choose another config.model.prior.name."
    )


@struct.dataclass
class Deterministic:
  """A code without noise, as an autoencoder's; it has no density."""

  mean: Float[Array, "b d"]

  def sample(self, key: Key[Array, " b"]) -> Float[Array, "b d"]:
    """Returns the code itself."""
    del key
    return self.mean

  def kl(self, prior: Any) -> Float[Array, " b"]:
    """Stops: a point has no finite divergence from a density."""
    raise ConfigError(
      "A deterministic posterior has no KL divergence: set "
      "config.objective.name to one without a rate, such as autoencoder, or "
      "config.model.posterior.name to diagonal_normal."
    )


@struct.dataclass
class Groups:
  """Independent groups of latents; a flat VAE has one.

  Samples are tuples of arrays, one per group.
  """

  groups: tuple[Any, ...]

  @property
  def mean(self) -> tuple[Float[Array, "b _"], ...]:
    """Means of the groups."""
    return tuple(g.mean for g in self.groups)

  def sample(
    self, key: Key[Array, " b"], **options: Any
  ) -> tuple[Float[Array, "b _"], ...]:
    """Returns one draw per group, each from a key of its own."""
    return tuple(
      g.sample(
        jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(key), **options
      )
      for i, g in enumerate(self.groups)
    )

  def log_prob(self, z: tuple[Float[Array, "b _"], ...]) -> Float[Array, " b"]:
    """Returns the sum of the groups' log densities, nats."""
    return sum(g.log_prob(v) for g, v in zip(self.groups, z, strict=True))

  def kl(self, prior: "Groups") -> Float[Array, " b"]:
    """Returns the sum of the groups' KL divergences, nats."""
    return sum(g.kl(p) for g, p in zip(self.groups, prior.groups, strict=True))


def _unit_pixels(image: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  return image.astype(jnp.float32) * jnp.float32(1 / 255)


def _to_uint8(image: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
  return jnp.round(jnp.clip(image, 0, 1) * 255).astype(jnp.uint8)


def _sum_pixels(values: Float[Array, "b h w c"]) -> Float[Array, " b"]:
  return jnp.sum(values, axis=(1, 2, 3))


@jax.custom_jvp
def _softplus(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
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
    x = _unit_pixels(image)
    return _sum_pixels(x * self.logits - _softplus(self.logits))

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

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats."""
    dims = math.prod(self.mean.shape[1:])
    scaled = 0.5 * jnp.exp(-2 * self.log_sigma) * self._squared_error(image)
    return -scaled - dims * (self.log_sigma + 0.5 * LOG_2PI)

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded and clipped to 0..255."""
    shape = self.mean.shape[1:]
    noise = jax.vmap(lambda k: jax.random.normal(k, shape))(key)
    return _to_uint8(self.mean + jnp.exp(self.log_sigma) * noise)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels, and sigma."""
    error = self._squared_error(image)
    sigma = jnp.exp(self.log_sigma)
    return {
      "squared_error": error,
      "sigma": jnp.broadcast_to(sigma, error.shape),
    }

  def _squared_error(
    self, image: UInt8[Array, "b h w c"]
  ) -> Float[Array, " b"]:
    return _sum_pixels(jnp.square(_unit_pixels(image) - self.mean))


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

  def _normal(self, image: UInt8[Array, "b h w c"] | None) -> Normal:
    if self.record is None or image is None:
      return Normal(self.mean, 0.5 * jnp.log(self.running_variance))
    variance = jnp.mean(jnp.square(_unit_pixels(image) - self.mean))
    if self.axis_name is not None:
      variance = jax.lax.pmean(variance, self.axis_name)
    return Normal(self.mean, 0.5 * jnp.log(variance))

  def log_prob(self, image: UInt8[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns log p(image), nats; records the variance in training."""
    normal = self._normal(image)
    if self.record is not None:
      self.record(jax.lax.stop_gradient(jnp.exp(2 * normal.log_sigma)))
    return normal.log_prob(image)

  def sample(self, key: Key[Array, " b"]) -> UInt8[Array, "b h w c"]:
    """Returns one image per key, rounded and clipped to 0..255."""
    return self._normal(None).sample(key)

  def metrics(
    self, image: UInt8[Array, "b h w c"]
  ) -> dict[str, Float[Array, " b"]]:
    """Returns the squared error summed over pixels, and sigma."""
    return self._normal(image).metrics(image)
