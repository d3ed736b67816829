"""The lower bound under a constraint: on the rate, or on the error."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, elbo, global_batch
from vae_jax.objectives.base import Terms


def capacity_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  capacity: float = 25.0,
  gamma: float = 1000.0,
  warmup_steps: int = 100_000,
  per: str = "batch",
  kl: str = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + gamma |KL(q(z | x) || p(z)) - C(step)|, one draw.

  C rises linearly from 0 to the capacity: information is let through little
  by little.

  Args:
    vae: the bound model.
    batch: this device's examples.
    capacity: C once warmed up, nats.
    gamma: nats lost per nat that the rate is away from C.
    warmup_steps: optimiser steps until C stays at the capacity; 0 = at once.
    per: whose rate is held at C. "batch": the mean over the global batch, as
      in the experiments of Locatello et al.; "example": each image's, as
      equation 8 may be read, which asks for more.
    kl: auto | closed | sampled, see `terms.rate`.

  References:
    Burgess et al., arXiv 1804.03599, equation 8; Locatello et al., arXiv
    1811.12359 (AnnealedVAE).
  """
  base.check("capacity", capacity, capacity >= 0, "0 or more")
  base.check("gamma", gamma, gamma >= 0, "0 or more")
  base.check("warmup_steps", warmup_steps, warmup_steps >= 0, "0 or more")
  base.check("per", per, per in ("batch", "example"), "batch or example")
  fraction = 1.0
  if warmup_steps:
    fraction = jnp.minimum(1.0, batch.step / warmup_steps)
  target = jnp.float32(capacity) * fraction
  plain = elbo.elbo(vae, batch, kl=kl)
  away = plain.rate - target
  held = away
  if per == "batch":
    held = global_batch.mean(*global_batch.gather(batch, away))
  # With the sign of what is held, the mean of the examples' losses is gamma
  # times its absolute value, and so is the gradient.
  sign = lax.stop_gradient(jnp.sign(held))
  return plain.replace(
    loss=plain.distortion + gamma * sign * away,
    extras={**plain.extras, "capacity": jnp.full_like(away, target)},
  )


def free_bits(
  vae: models.Vae,
  batch: Batch,
  *,
  free_nats: float = 0.25,
  per: str = "dimension",
  beta: float = 1.0,
  schedule: str = "constant",
  warmup_steps: int = 0,
  cycles: int = 4,
) -> Terms:
  """E_q[-log p(x | z)] + beta(step) sum_j max(lambda, E_batch KL_j), one draw.

  The mean over the global batch is taken inside the maximum, so that a part
  of the code costs nothing up to lambda nats on average. Each example's loss
  has KL_j where that mean is above lambda, and lambda where it is not: its
  mean over the batch is the sum above, its gradient that of the parts above.
  The rate is the true one.

  Args:
    vae: the bound model; its KL divergence must have a closed form.
    batch: this device's examples.
    free_nats: lambda, nats per part.
    per: what a part j is: each latent "dimension", or each "group" of them.
    beta: weight of the sum once warmed up.
    schedule: constant | linear | cyclical | steps, see `elbo.kl_weight`.
    warmup_steps: optimiser steps until the weight stays at beta.
    cycles: cycles, or stairs, within them.

  References:
    Kingma et al., arXiv 1606.04934, appendix C.8.

  Raises:
    ConfigError: no closed form is known for the posterior and the prior.
  """
  base.check("free_nats", free_nats, free_nats >= 0, "0 or more")
  weight = elbo.kl_weight(
    batch.step,
    beta=beta,
    schedule=schedule,
    warmup_steps=warmup_steps,
    cycles=cycles,
  )
  posterior, prior = vae.encode(batch.image), vae.prior()
  parts = _kl_parts(posterior, prior, per)
  likelihood = vae.decode(posterior.sample(batch.key))
  distortion = -likelihood.log_prob(batch.image)
  mean = global_batch.mean(*global_batch.gather(batch, parts))
  above = jnp.broadcast_to(mean > free_nats, parts.shape)
  clamped = jnp.sum(jnp.where(above, parts, free_nats), axis=-1)
  free = jnp.sum(~above, axis=-1, dtype=jnp.float32)
  return Terms(
    loss=distortion + weight * clamped,
    distortion=distortion,
    rate=jnp.sum(parts, axis=-1),
    extras={**likelihood.metrics(batch.image), "free_parts": free},
  )


def _kl_parts(posterior: Any, prior: Any, per: str) -> Float[Array, "b j"]:
  """Returns the rate of each dimension, or of each group, nats."""
  base.check("per", per, per in ("dimension", "group"), "dimension or group")
  pairs = list(zip(posterior.groups, prior.groups, strict=True))
  for q, p in pairs:
    split = per == "group" or hasattr(q, "kl_per_dimension")
    if not (q.has_kl(p) and split):
      raise ConfigError(
        f"free_bits needs a closed form of each {per}'s KL divergence, which "
        f"{type(q).__name__} from {type(p).__name__} does not have; choose "
        "another config.model.posterior.name or config.model.prior.name."
      )
  if per == "group":
    return jnp.stack([q.kl(p) for q, p in pairs], axis=-1)
  return jnp.concatenate([q.kl_per_dimension(p) for q, p in pairs], axis=-1)


class Multiplier(nn.Module):
  """A positive number, learned by its logarithm.

  Attributes:
    initial: its value before the first step.
  """

  initial: float = 1.0

  @nn.compact
  def __call__(self) -> Float[Array, ""]:
    """Returns the logarithm."""
    if not self.initial > 0:
      raise ConfigError(
        f"config.objective.auxiliary.args.initial is {self.initial}; it must "
        "be above 0."
      )
    start = nn.initializers.constant(math.log(self.initial))
    return self.param("log_value", start, ())


@base.needs(Multiplier, reads="nothing")
def geco(
  vae: models.Vae,
  batch: Batch,
  *,
  kappa: float = 0.1,
  kl: str = "auto",
) -> Terms:
  """Least rate such that the error is at most kappa: rate + lambda C, one draw.

  C = |x - mean(z)|^2 - D kappa^2 with x in [0, 1]^D. The networks descend on
  rate + lambda C; log lambda ascends on it, its gradient in the loss being
  -lambda E[C], so that lambda rises while the error is too high and falls
  once it is low enough. lambda weighs the error as a normal likelihood of
  sigma^2 = 1 / (2 lambda) would. The published algorithm smooths C over
  steps; here the momentum of `config.optim.auxiliary.optimizer` does, and its
  learning rate is how fast log lambda moves. The likelihood's own scale is
  not learned by this loss.

  Args:
    vae: the bound model.
    batch: this device's examples.
    kappa: tolerated root mean square error of a pixel value in [0, 1]; the
      paper's kappa is this times sqrt(D), D = height * width * channels.
    kl: auto | closed | sampled, see `terms.rate`.

  References:
    Rezende and Viola, arXiv 1810.00597, algorithm 1, with the
    reconstruction-error constraint.
  """
  base.check("kappa", kappa, kappa >= 0, "0 or more")
  base.check_all_levels("geco", vae)
  posterior = vae.encode(batch.image)
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  rate = base.rate(posterior, vae.prior(), z, log_q, kl=kl)
  x = distributions.unit_pixels(batch.image)
  error = jnp.square(x - likelihood.mean) - kappa**2
  constraint = jnp.sum(error, axis=(1, 2, 3))
  log_multiplier = vae.auxiliary()
  multiplier = jnp.exp(lax.stop_gradient(log_multiplier))
  # Zero in value: all it adds is the multiplier's gradient, upwards.
  ascent = log_multiplier - lax.stop_gradient(log_multiplier)
  ascent = ascent * lax.stop_gradient(multiplier * constraint)
  return Terms(
    loss=rate + multiplier * constraint - ascent,
    distortion=-likelihood.log_prob(batch.image),
    rate=rate,
    extras={
      **likelihood.metrics(batch.image),
      "lambda": jnp.full_like(rate, multiplier),
      "constraint": constraint,
    },
  )
