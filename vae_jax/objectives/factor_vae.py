"""The ELBO and a total correlation that a critic estimates (FactorVAE).

Each player descends its own term; `stop_gradient` and `base.frozen` keep a
term from training the other player, so that the terms add up to one loss. Both
play at once, each against the other as it was before the step; the paper lets
them take turns. The critic has one logit, and every cross-entropy is a
softplus of it: no probability is rounded before its logarithm is taken.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from vae_jax import models
from vae_jax.data.batch import Batch, Stream
from vae_jax.models import critics
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Kl, Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked


@base.needs(critics.LatentCritic, reads="latents")
@checked
def factor_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  gamma: Annotated[float, at_least(0)] = 10.0,
  kl: Kl = "auto",
) -> Terms:
  """-ELBO + gamma TC(z), the total correlation as a critic estimates it.

  TC = KL(q(z) || prod_j q(z_j)) = E_q[log D(z) / (1 - D(z))], the mean logit
  of a critic D that tells draws of q(z) from draws whose dimensions were
  permuted over the batch, by
  -1/2 (mean log D(z) + mean log(1 - D(permuted z'))).
  z' are other examples than z: halves of the global batch stand for the two
  batches of the paper, while the ELBO and TC(z) use all of it. The estimate
  is as good as the critic.

  Args:
    gamma: weight of the total correlation, beyond its part of the ELBO.

  Returns:
    Extras: total_correlation, nats; critic_loss, nats, log 2 for a critic at
    chance; critic_accuracy.

  References:
    Kim and Mnih, arXiv 1802.05983, equations 2 and 3, algorithm 2.
  """
  draw = one_draw(vae, batch, kl=kl)
  code = base.flatten(draw.z)
  correlation = base.frozen_auxiliary(vae, code)
  critic_loss, accuracy = _critic_terms(vae, batch, lax.stop_gradient(code))
  return base.terms(
    draw,
    draw.distortion + draw.rate + gamma * correlation + critic_loss,
    total_correlation=correlation,
    critic_loss=critic_loss,
    critic_accuracy=accuracy,
  )


def permute_columns(
  values: Float[Array, "n d"],
  noise: Float[Array, "n d"],
  rows: Bool[Array, " n"],
) -> Float[Array, "n d"]:
  """Returns the values with each column shuffled among some of the rows.

  A column keeps its values and loses its relation to the other columns: a
  draw from q(z) becomes one from the product of its marginals.

  Args:
    values: codes of the global batch.
    noise: uniform in [0, 1), a number for each value: sorting a column of it
      gives that column's permutation, each with the same probability.
    rows: whether a row takes part; the others stay as they are.

  References:
    Kim and Mnih, arXiv 1802.05983, algorithm 1.
  """
  source = jnp.argsort(jnp.where(rows[:, None], noise, jnp.inf), axis=0)
  place = jnp.maximum(jnp.cumsum(rows) - 1, 0)
  shuffled = jnp.take_along_axis(values, source[place], axis=0)
  return jnp.where(rows[:, None], shuffled, values)


def _critic_terms(
  vae: models.Vae, batch: Batch, code: Float[Array, "b d"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
  """Returns the cross-entropy and the accuracy of the critic of factor_vae.

  The first half of the global batch are draws from q(z); the second, its
  columns permuted, draws from the product of the marginals. Each example is
  one input of the critic and has a weight with which the mean over the global
  batch is the mean of the two halves' means, whatever their sizes; 0 without
  a second half.
  """
  codes, mask = global_batch.gather(batch, code)
  shape = (code.shape[-1],)
  noise = jax.vmap(lambda k: jax.random.uniform(k, shape))(
    base.stream(batch.key, Stream.PERMUTATIONS)
  )
  noise, _ = global_batch.gather(batch, noise)
  count = mask.sum()
  second = mask & (2 * jnp.cumsum(mask) > count + 1)
  permuted = permute_columns(codes, noise, second)

  here = global_batch.positions(batch)
  logit = vae.auxiliary(permuted[here])
  half = jnp.where(second, second.sum(), count - second.sum())
  weight = count / (2 * jnp.maximum(half, 1)) * (mask & second.any())
  cross_entropy = jax.nn.softplus(jnp.where(second[here], logit, -logit))
  is_correct = (logit < 0) == second[here]
  return weight[here] * cross_entropy, weight[here] * is_correct
