"""The evidence lower bound, and the rate weighted by beta."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base
from vae_jax.objectives.base import Terms

_SCHEDULES = ("constant", "linear", "cyclical", "steps")


def kl_weight(
  step: jax.Array,
  *,
  beta: float,
  schedule: str,
  warmup_steps: int,
  cycles: int,
) -> Float[Array, ""]:
  """Returns the weight of the rate at a step, rising from 0 to beta.

  With t = step / warmup_steps:
    constant  beta
    linear    beta min(1, t)
    cyclical  beta min(1, 2 c), c = the fraction of the current one of
              `cycles` equal cycles; beta after the last
    steps     beta min(1, floor(cycles t) / cycles), a staircase

  References:
    Bowman et al., arXiv 1511.06349 (linear); Fu et al., arXiv 1903.10145,
    equation 6 with R = 1/2 (cyclical).

  Raises:
    ConfigError: an argument out of its range.
  """
  base.check("beta", beta, beta >= 0, "0 or more")
  if schedule not in _SCHEDULES:
    raise ConfigError(
      f"config.objective.args.schedule is {schedule!r}; allowed are "
      f"{', '.join(_SCHEDULES)}."
    )
  base.check("cycles", cycles, cycles >= 1, "at least 1")
  if schedule == "constant":
    base.check(
      "warmup_steps", warmup_steps, not warmup_steps, "0 with schedule constant"
    )
    return jnp.float32(beta)
  if warmup_steps < 1:
    raise ConfigError(
      f"config.objective.args.warmup_steps is {warmup_steps}; schedule "
      f"{schedule} needs at least 1."
    )
  base.check("cycles", cycles, cycles * warmup_steps < 2**31, "fewer")
  step = jnp.minimum(step, warmup_steps)
  if schedule == "linear":
    fraction = step / warmup_steps
  elif schedule == "steps":
    # In integers: floor(cycles * step / warmup) must not round below a stair.
    fraction = (step * cycles // warmup_steps) / cycles
  else:
    position = step * cycles / warmup_steps
    within = 2 * (position - jnp.floor(position))
    fraction = jnp.where(step < warmup_steps, within, 1.0)
  return beta * jnp.minimum(1.0, fraction).astype(jnp.float32)


def elbo(vae: models.Vae, batch: Batch, *, kl: str = "auto") -> Terms:
  """-ELBO = E_q[-log p(x | z)] + KL(q(z | x) || p(z)), one draw of z.

  References:
    Kingma and Welling, arXiv 1312.6114, equation 10 with L = 1.
  """
  return beta_vae(vae, batch, beta=1.0, kl=kl)


def beta_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: float = 4.0,
  schedule: str = "constant",
  warmup_steps: int = 0,
  cycles: int = 4,
  kl: str = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + beta(step) KL(q(z | x) || p(z)), one draw of z.

  Args:
    vae: the bound model.
    batch: this device's examples.
    beta: weight of the rate once warmed up; 1 is the ELBO.
    schedule: constant | linear | cyclical | steps, see `kl_weight`.
    warmup_steps: optimiser steps until the weight stays at beta.
    cycles: cycles, or stairs, within them.
    kl: auto | closed | sampled, see `terms.rate`.

  References:
    Higgins et al., ICLR 2017 (openreview Sy2fzU9gl), equation 4.
  """
  weight = kl_weight(
    batch.step,
    beta=beta,
    schedule=schedule,
    warmup_steps=warmup_steps,
    cycles=cycles,
  )
  posterior = vae.encode(batch.image)
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  rate = base.rate(posterior, vae.prior(), z, log_q, kl=kl)
  return Terms(
    loss=distortion + weight * rate,
    distortion=distortion,
    rate=rate,
    extras=likelihood.metrics(batch.image),
  )
