"""Normal and deterministic latents, mixtures and groups, in nats.

A prior has `sample(key [b], temperature) -> [b d]` and `log_prob(z) -> [b]`;
a posterior has `sample(key)`, `log_prob(z)`, `sample_and_log_prob(key)`,
`mean`, `has_kl(prior)` and, where a closed form is known, `kl(prior) -> [b]`.
Densities are in float32 whatever the networks use.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key, Num

from vae_jax.config import ConfigError

LOG_2PI = math.log(2 * math.pi)
Keys = Key[Array, " b"]
PerExample = Float[Array, " b"]
Codes = Float[Array, "b d"]
# Groups of latents, each an array of any rank.
Latents = tuple[Num[Array, "b ..."], ...]


def per_key(
  sampler: Callable[..., jax.Array], key: Keys, shape: tuple[int, ...]
) -> Float[Array, "b ..."]:
  """Returns one draw of a function of `jax.random`, of a shape, per key."""
  return jax.vmap(lambda k: sampler(k, shape))(key)


@struct.dataclass
class StandardNormal:
  """N(0, I) in `dim` dimensions."""

  dim: int = struct.field(pytree_node=False)

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key, with standard deviation `temperature`."""
    return temperature * per_key(jax.random.normal, key, (self.dim,))

  def log_prob(self, z: Codes) -> PerExample:
    """Returns -1/2 sum_j (z_j^2 + log 2 pi), nats."""
    return -0.5 * jnp.sum(jnp.square(z) + LOG_2PI, axis=-1)


@struct.dataclass
class DiagonalNormal:
  """N(mean, diag(exp(log_variance))), one per example."""

  mean: Codes
  log_variance: Codes

  def sample(self, key: Keys) -> Codes:
    """Returns mean + exp(log_variance / 2) * noise, differentiable in both.

    References:
      Kingma and Welling, arXiv 1312.6114, section 2.4.
    """
    return self.sample_and_log_prob(key)[0]

  def sample_and_log_prob(self, key: Keys) -> tuple[Codes, PerExample]:
    """Returns one draw per key and its log density, nats.

    The density is that of the noise, because z - mean loses precision where the
    variance is tiny.
    """
    noise = per_key(jax.random.normal, key, self.mean.shape[1:])
    z = self.mean + jnp.exp(0.5 * self.log_variance) * noise
    square = jnp.square(noise)
    return z, -0.5 * jnp.sum(square + self.log_variance + LOG_2PI, axis=-1)

  def log_prob(self, z: Codes) -> PerExample:
    """Returns sum_j log N(z_j; mean_j, variance_j), nats."""
    square = jnp.square(z - self.mean) * jnp.exp(-self.log_variance)
    return -0.5 * jnp.sum(square + self.log_variance + LOG_2PI, axis=-1)

  def has_kl(self, prior: Any) -> bool:
    """Returns whether KL(self || prior) has a closed form."""
    return isinstance(prior, StandardNormal | DiagonalNormal)

  def kl(self, prior: Any) -> PerExample:
    """Returns KL(self || prior), nats; see `kl_per_dimension`."""
    return jnp.sum(self.kl_per_dimension(prior), axis=-1)

  def kl_per_dimension(self, prior: Any) -> Codes:
    """Returns each dimension's term of KL(self || prior), nats.

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
      f"{type(prior).__name__}); choose another config.model.prior.name, or "
      "an objective that samples its rate."
    )


def _no_density() -> ConfigError:
  """Returns the error for a rate or a density of a deterministic code."""
  return ConfigError(
    "A deterministic posterior has no KL divergence: set "
    "config.objective.name to one without a rate, such as autoencoder, or "
    "config.model.posterior.name to diagonal_normal."
  )


@struct.dataclass
class NormalMixture:
  """sum_k w_k N(mean_k, diag(exp(log_variance_k))), w = softmax(logits).

  Attributes:
    mean: mean of each of the n components.
    log_variance: log variance of each component.
    logits: log weights of the components, up to a constant.
  """

  mean: Float[Array, "n d"]
  log_variance: Float[Array, "n d"]
  logits: Float[Array, " n"]

  def sample(self, key: Keys, temperature: float | jax.Array = 1.0) -> Codes:
    """Returns one draw per key.

    `temperature` is a factor on the standard deviations of the components; it
    changes neither their weights nor their means.
    """
    scale = temperature * jnp.exp(0.5 * self.log_variance)

    def draw(key: Key[Array, ""]) -> Float[Array, " d"]:
      pick, noise = jax.random.split(key)
      k = jax.random.categorical(pick, self.logits)
      normal = jax.random.normal(noise, self.mean.shape[1:])
      return self.mean[k] + scale[k] * normal

    return jax.vmap(draw)(key)

  def log_prob(self, z: Codes) -> PerExample:
    """Returns log sum_k w_k N(z; mean_k, variance_k), nats."""
    # Differences, because squares expanded into matrix products would cancel
    # where a component is narrow.
    square = jnp.square(z[:, None] - self.mean[None])
    scaled = square * jnp.exp(-self.log_variance)[None]
    constant = jnp.sum(self.log_variance + LOG_2PI, axis=-1)
    each = jax.nn.log_softmax(self.logits) - 0.5 * constant
    return jax.nn.logsumexp(each[None] - 0.5 * scaled.sum(-1), axis=1)


@struct.dataclass
class Deterministic:
  """A code without noise, as of an autoencoder; it has no density."""

  mean: Codes

  def sample(self, key: Keys) -> Codes:
    """Returns the code itself."""
    return self.mean

  def has_kl(self, prior: Any) -> bool:
    """Returns False: a point has no finite divergence from a density."""
    return False

  def kl(self, prior: Any) -> PerExample:
    """Raises a ConfigError, because the divergence is infinite."""
    raise _no_density()

  def log_prob(self, z: Codes) -> PerExample:
    """Raises a ConfigError as `kl`, because a point has no density."""
    raise _no_density()


def total(values: tuple[PerExample | None, ...]) -> PerExample:
  """Returns the sum over groups of log densities or divergences, nats.

  Raises:
    ConfigError: a group is deterministic and has None.
  """
  if any(value is None for value in values):
    raise _no_density()
  return sum(values)


@struct.dataclass
class Groups:
  """Independent groups of latents; a flat VAE has one.

  Samples are tuples of arrays, one per group, each [b ...] of any rank.
  """

  groups: tuple[Any, ...]

  @property
  def mean(self) -> Latents:
    """Returns the means of the groups."""
    return tuple(g.mean for g in self.groups)

  def sample(self, key: Keys, **options: Any) -> Latents:
    """Returns one draw per group, each from a key of its own."""
    return tuple(
      g.sample(self._key(key, i), **options) for i, g in enumerate(self.groups)
    )

  def draw(self, key: Keys) -> tuple[Latents, tuple[PerExample | None, ...]]:
    """Returns the draw of `sample` and each group's log density, nats; None
    for a deterministic group, which has none."""
    pairs = [
      (group.mean, None)
      if isinstance(group, Deterministic)
      else group.sample_and_log_prob(self._key(key, i))
      for i, group in enumerate(self.groups)
    ]
    return tuple(z for z, _ in pairs), tuple(log_q for _, log_q in pairs)

  def sample_and_log_prob(self, key: Keys) -> tuple[Latents, PerExample]:
    """Returns the draw of `sample` and its log density, nats.

    It is faster than `log_prob` where inverting the sampler is slow.

    Raises:
      ConfigError: a group is deterministic.
    """
    z, log_q = self.draw(key)
    return z, total(log_q)

  def _key(self, key: Keys, group: int) -> Keys:
    return jax.vmap(lambda k: jax.random.fold_in(k, group))(key)

  def log_prob(self, z: Latents) -> PerExample:
    """Returns the sum of the groups' log densities, nats."""
    return sum(g.log_prob(v) for g, v in zip(self.groups, z, strict=True))

  def has_kl(self, prior: "Groups") -> bool:
    """Returns whether every group's divergence has a closed form."""
    pairs = zip(self.groups, prior.groups, strict=True)
    return all(g.has_kl(p) for g, p in pairs)

  def kl(self, prior: "Groups") -> PerExample:
    """Returns the sum of the groups' KL divergences, nats."""
    return sum(g.kl(p) for g, p in zip(self.groups, prior.groups, strict=True))
