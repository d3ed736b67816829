"""The ELBO with separate weights on the parts of its rate (TC-VAE).

The losses on the aggregate posterior q(z) = mean over images of q(z | x) make
its latents independent: `beta_tcvae` by their total correlation, estimated
here, `dip_vae` by their covariance, `factor_vae` by a critic.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vae_jax import distributions, models
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms, one_draw
from vae_jax.objectives.constraints import at_least, checked, choice

Estimator = Annotated[str, choice("stratified", "weighted")]


@checked
def beta_tcvae(
  vae: models.Vae,
  batch: Batch,
  *,
  alpha: Annotated[float, at_least(0)] = 1.0,
  beta: Annotated[float, at_least(0)] = 6.0,
  gamma: Annotated[float, at_least(0)] = 1.0,
  estimator: Estimator = "stratified",
  dataset_size: Annotated[int, at_least(0)] = 0,
) -> Terms:
  """E_q[-log p(x | z)] + alpha MI + beta TC + gamma DWKL, one draw of z.

  MI = log q(z | x) - log q(z), TC = log q(z) - sum_k log q(z_k), and DWKL =
  sum_k log q(z_k) - log p(z) add up to the one-draw estimate of the rate. Each
  is logged with its constants; as numbers they depend on the estimator and on
  the batch size, and a batch's TC may be below 0. The weighted one is higher
  by (d - 1) log N or so, which moves no gradient.

  Args:
    vae: the bound model, with a diagonal normal posterior.
    alpha: weight of the index-code mutual information.
    beta: weight of the total correlation.
    gamma: weight of the latents' own divergences from the prior.
    estimator: of q(z), see `log_weights`.
    dataset_size: training images; 0 = filled in by the run.

  Returns:
    Extras, nats: mutual_information, total_correlation, dimensionwise_kl.

  References:
    Chen et al., arXiv 1802.04942, equations 2 and 4.
  """
  draw = one_draw(vae, batch)
  mean, log_variance = base.normal_moments("beta_tcvae", draw.posterior)
  # Each device estimates for its own codes, from the posteriors of all.
  means, mask = global_batch.gather(batch, mean)
  log_variances, _ = global_batch.gather(batch, log_variance)
  rows = global_batch.positions(batch)
  log_weight = log_weights(
    rows, mask, dataset_size=dataset_size, estimator=estimator
  )
  joint, product = aggregate_log_densities(
    base.flatten(draw.z), means, log_variances, log_weight
  )
  information = draw.log_q - joint
  correlation = joint - product
  dimensionwise = product - draw.prior.log_prob(draw.z)
  penalty = alpha * information + beta * correlation + gamma * dimensionwise
  return base.terms(
    draw,
    draw.distortion + penalty,
    mutual_information=information,
    total_correlation=correlation,
    dimensionwise_kl=dimensionwise,
  )


@checked
def log_weights(
  rows: Int[Array, " b"],
  mask: Bool[Array, " n"],
  *,
  dataset_size: int,
  estimator: Estimator,
) -> Float[Array, "b n"]:
  """Returns log W_ij of the estimate q(z_i) = sum_j W_ij q(z_i | x_j).

  With N training images, n in the batch and M = n - 1 others:
    weighted    1 / (N n): rows sum to 1 / N, and the estimate is too low
    stratified  1 / N for x_i itself, (N - M) / (N M) for the one after it and
                1 / M for the rest: rows sum to 1, and over random batches
                that hold x_i the estimate is unbiased
  A batch of one has no others; there, q(z | x) stands for q(z) if stratified.

  Args:
    rows: places of the z_i in the global batch.
    mask: which examples of the global batch count; others have weight 0.
    dataset_size: N, images; taken as n where it is less.

  References:
    Chen et al., arXiv 1802.04942, section 4.1 and appendix C.
  """
  count = jnp.sum(mask)
  size = jnp.maximum(jnp.float32(dataset_size), count)
  shape = (len(rows), len(mask))
  if estimator == "weighted":
    weight = jnp.full(shape, 1 / (size * count))
  else:
    others = jnp.maximum(count - 1, 1)
    # The next image must count, too: places leave out the padding.
    place = jnp.cumsum(mask) - 1
    after = (place[rows] + 1) % jnp.maximum(count, 1)
    own = rows[:, None] == jnp.arange(len(mask))[None, :]
    following = place[None, :] == after[:, None]
    rest = jnp.where(following, (size - others) / size / others, 1 / others)
    weight = jnp.where(own, 1 / size, rest)
    weight = jnp.where(count > 1, weight, 1.0)
  return jnp.where(mask[None, :], jnp.log(weight), -jnp.inf)


def aggregate_log_densities(
  z: Float[Array, "b d"],
  mean: Float[Array, "n d"],
  log_variance: Float[Array, "n d"],
  log_weight: Float[Array, "b n"],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
  """Returns estimates of log q(z) and of sum_k log q(z_k), nats, from the
  posteriors of the global batch and their `log_weights` in each estimate."""
  square = jnp.square(z[:, None, :] - mean[None, :, :])
  square = square * jnp.exp(-log_variance)[None, :, :]
  constant = (log_variance + distributions.LOG_2PI)[None, :, :]
  density = -0.5 * (square + constant)
  joint = jax.nn.logsumexp(log_weight + density.sum(axis=-1), axis=1)
  single = jax.nn.logsumexp(log_weight[:, :, None] + density, axis=1)
  return joint, single.sum(axis=-1)
