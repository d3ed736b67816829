"""One draw of the latents of each image, with its densities and likelihood."""

from typing import Any

from flax import struct
from jaxtyping import Array, Float

from vae_jax import distributions
from vae_jax.config import ConfigError

# How a rate is computed, see `rates`.
KL = ("auto", "closed", "sampled")


@struct.dataclass
class Draw:
  """A draw z ~ q(z | x) for each image x, from one pass through the model.

  In a hierarchy, q and p of a group are conditioned on the draw of the groups
  above it, and log q and KL are sums over groups.

  Attributes:
    posterior: q(z | x).
    prior: p(z).
    z: the draw, one array per group.
    log_q_per_group: log q(z | x) of each group, nats; None where the group
      is a point and has no density.
    rate_per_group: KL(q || p) of each group, or its estimate, nats; None
      likewise.
    likelihood: p(x | z).
    distortion: -log p(x | z), nats.
    extras: further values of the likelihood to log, by name.
  """

  posterior: distributions.Groups
  prior: distributions.Groups
  z: distributions.Latents
  log_q_per_group: tuple[Float[Array, " b"] | None, ...]
  rate_per_group: tuple[Float[Array, " b"] | None, ...]
  likelihood: Any
  distortion: Float[Array, " b"]
  extras: dict[str, Float[Array, " b"]]

  @property
  def has_rate(self) -> bool:
    """Whether every group of the posterior has a density."""
    return all(rate is not None for rate in self.rate_per_group)

  # Both raise a ConfigError where the posterior is deterministic.
  @property
  def rate(self) -> Float[Array, " b"]:
    """KL(q(z | x) || p(z)) or its estimate, nats, the sum over groups."""
    return distributions.total(self.rate_per_group)

  @property
  def log_q(self) -> Float[Array, " b"]:
    """log q(z | x), nats, the sum over groups."""
    return distributions.total(self.log_q_per_group)


def rates(
  posterior: distributions.Groups,
  prior: distributions.Groups,
  z: distributions.Latents,
  log_q: tuple[Float[Array, " b"] | None, ...],
  *,
  kl: str,
) -> tuple[Float[Array, " b"] | None, ...]:
  """Returns KL(q || p) of each group, nats, or its unbiased estimate.

  Args:
    z, log_q: a draw from q, and its log q; None where it has no density.
    kl: "closed" is the closed form; "sampled" is log q(z) - log p(z), or None
      without a density; "auto" is the closed form where there is one.

  Raises:
    ConfigError: another `kl`, or no closed form where it is asked for.
  """
  if kl not in KL:
    raise ConfigError(
      f"config.objective.args.kl is {kl!r}; allowed are {', '.join(KL)}."
    )
  values = []
  for q, p, v, log in zip(
    posterior.groups, prior.groups, z, log_q, strict=True
  ):
    if kl == "closed" or (kl == "auto" and q.has_kl(p)):
      values.append(q.kl(p))
    else:
      values.append(None if log is None else log - p.log_prob(v))
  return tuple(values)
