"""The ELBO with a weight on the rate, and the schedules of that weight."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax import models
from vae_jax.data.batch import Batch
from vae_jax.objectives.base import Kl, Terms
from vae_jax.objectives.constraints import at_least, checked, choice, require
from vae_jax.objectives.elbo import elbo

Schedule = Annotated[str, choice("constant", "linear", "cyclical", "steps")]


@checked
def beta_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  beta: Annotated[float, at_least(0)] = 4.0,
  schedule: Schedule = "constant",
  warmup_steps: Annotated[int, at_least(0)] = 0,
  cycles: Annotated[int, at_least(1)] = 4,
  kl: Kl = "auto",
) -> Terms:
  """E_q[-log p(x | z)] + beta(step) KL(q(z | x) || p(z)), one draw of z.

  Args:
    beta: weight of the rate after the warm-up; 1 is the ELBO.
    schedule: see `kl_weight`.
    warmup_steps: optimizer steps until the weight stays at beta.
    cycles: cycles, or stairs, within them.

  References:
    Higgins et al., ICLR 2017 (openreview Sy2fzU9gl), equation 4.
  """
  terms = elbo(vae, batch, kl=kl)
  weight = kl_weight(batch.step, beta, schedule, warmup_steps, cycles)
  return terms.replace(loss=terms.distortion + weight * terms.rate)


@checked
def kl_weight(
  step: jax.Array,
  beta: Annotated[float, at_least(0)],
  schedule: Schedule,
  warmup_steps: Annotated[int, at_least(0)],
  cycles: Annotated[int, at_least(1)],
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
  """
  if schedule == "constant":
    words = "it must be 0 with schedule constant"
    require("warmup_steps", warmup_steps, warmup_steps == 0, words)
    return jnp.float32(beta)
  words = f"it must be at least 1 with schedule {schedule}"
  require("warmup_steps", warmup_steps, warmup_steps >= 1, words)
  words = f"it must be below 2^31 / warmup_steps, and those are {warmup_steps}"
  require("cycles", cycles, cycles * warmup_steps < 2**31, words)
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
