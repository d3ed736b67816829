"""Losses on the aggregate posterior q(z) = mean over images of q(z | x).

They ask its latents to be independent of one another: by their total
correlation, or by their covariance.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data.batch import Batch
from vae_jax.objectives import base, global_batch
from vae_jax.objectives.base import Terms

_ESTIMATORS = ("stratified", "weighted")
_KINDS = ("i", "ii")


def log_weights(
  rows: Int[Array, " b"],
  mask: Bool[Array, " n"],
  *,
  dataset_size: int,
  estimator: str,
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
    estimator: stratified | weighted.

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
    # The one after x_i must count, too: places leave out the padding.
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
  """Returns estimates of log q(z) and of sum_k log q(z_k), nats.

  Args:
    z: codes.
    mean: means of the posteriors of the global batch.
    log_variance: logs of their variances.
    log_weight: of each posterior in each code's estimate; see `log_weights`.
  """
  square = jnp.square(z[:, None, :] - mean[None, :, :])
  square = square * jnp.exp(-log_variance)[None, :, :]
  constant = (log_variance + distributions.LOG_2PI)[None, :, :]
  density = -0.5 * (square + constant)
  joint = jax.nn.logsumexp(log_weight + density.sum(axis=-1), axis=1)
  single = jax.nn.logsumexp(log_weight[:, :, None] + density, axis=1)
  return joint, single.sum(axis=-1)


def beta_tcvae(
  vae: models.Vae,
  batch: Batch,
  *,
  alpha: float = 1.0,
  beta: float = 6.0,
  gamma: float = 1.0,
  estimator: str = "stratified",
  dataset_size: int = 0,
) -> Terms:
  """E_q[-log p(x | z)] + alpha MI + beta TC + gamma DWKL, one draw of z.

  MI = log q(z | x) - log q(z), TC = log q(z) - sum_k log q(z_k), and DWKL =
  sum_k log q(z_k) - log p(z) add up to the one-draw estimate of the rate. Each
  is logged with its constants; as numbers they depend on the estimator and on
  the batch size, and a batch's TC may be below 0. The weighted one is higher
  by (d - 1) log N or so, which moves no gradient.

  Args:
    vae: the bound model, with a diagonal normal posterior.
    batch: this device's examples.
    alpha: weight of the index-code mutual information.
    beta: weight of the total correlation.
    gamma: weight of the latents' own divergences from the prior.
    estimator: stratified | weighted, of q(z); see `log_weights`.
    dataset_size: training images; 0 = a run fills in those that it has.

  References:
    Chen et al., arXiv 1802.04942, equations 2 and 4.
  """
  if estimator not in _ESTIMATORS:
    raise ConfigError(
      f"config.objective.args.estimator is {estimator!r}; allowed are "
      f"{', '.join(_ESTIMATORS)}."
    )
  if dataset_size < 0:
    raise ConfigError(
      f"config.objective.args.dataset_size is {dataset_size}; it must be the "
      "number of training images, or 0 for those of the data set."
    )
  for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
    base.check(name, value, value >= 0, "0 or more")
  posterior, prior = vae.encode(batch.image), vae.prior()
  mean, log_variance = _moments(posterior, "beta_tcvae")
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)

  # A device estimates for its own codes, from the posteriors of all.
  means, mask = global_batch.gather(batch, mean)
  log_variances, _ = global_batch.gather(batch, log_variance)
  log_weight = log_weights(
    global_batch.positions(batch),
    mask,
    dataset_size=dataset_size,
    estimator=estimator,
  )
  joint, product = aggregate_log_densities(
    base.flatten(z), means, log_variances, log_weight
  )
  information = log_q - joint
  correlation = joint - product
  dimensionwise = product - prior.log_prob(z)
  penalty = alpha * information + beta * correlation + gamma * dimensionwise
  return Terms(
    loss=distortion + penalty,
    distortion=distortion,
    rate=base.rate(posterior, prior, z, log_q, kl="auto"),
    extras=likelihood.metrics(batch.image)
    | {
      "mutual_information": information,
      "total_correlation": correlation,
      "dimensionwise_kl": dimensionwise,
    },
  )


def dip_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  kind: str = "ii",
  lambda_od: float = 10.0,
  lambda_d: float = 10.0,
  kl: str = "auto",
) -> Terms:
  """-ELBO + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2.

  C is the covariance over the global batch of the posteriors' means, or that
  of the codes: the same plus the mean of the posteriors' variances.

  Args:
    vae: the bound model, with a diagonal normal posterior.
    batch: this device's examples.
    kind: i for the means' covariance, ii for the codes'.
    lambda_od: nats per squared covariance of two latents.
    lambda_d: nats per squared deviation of a latent's variance from 1.
    kl: auto | closed | sampled, see `terms.rate`.

  References:
    Kumar, Sattigeri and Balakrishnan, arXiv 1711.00848, equations 6 and 7.
  """
  if kind not in _KINDS:
    raise ConfigError(
      f"config.objective.args.kind is {kind!r}; allowed are "
      f"{', '.join(_KINDS)}."
    )
  for name, value in (("lambda_od", lambda_od), ("lambda_d", lambda_d)):
    if not value >= 0:
      raise ConfigError(
        f"config.objective.args.{name} is {value}; it must be 0 or more."
      )
  posterior = vae.encode(batch.image)
  z, log_q = posterior.sample_and_log_prob(batch.key)
  likelihood = vae.decode(z)
  distortion = -likelihood.log_prob(batch.image)
  rate = base.rate(posterior, vae.prior(), z, log_q, kl=kl)

  mean, log_variance = _moments(posterior, "dip_vae")
  means, mask = global_batch.gather(batch, mean)
  centred = means - global_batch.mean(means, mask)[None, :]
  products = centred[:, :, None] * centred[:, None, :]
  covariance = global_batch.mean(products, mask)
  if kind == "ii":
    variances, _ = global_batch.gather(batch, jnp.exp(log_variance))
    covariance += jnp.diag(global_batch.mean(variances, mask))
  variance = jnp.diag(covariance)
  off_diagonal = covariance - jnp.diag(variance)
  penalty = lambda_od * jnp.sum(jnp.square(off_diagonal))
  penalty += lambda_d * jnp.sum(jnp.square(variance - 1))
  return Terms(
    loss=distortion + rate + penalty,
    distortion=distortion,
    rate=rate,
    extras=likelihood.metrics(batch.image)
    | {"covariance_penalty": jnp.broadcast_to(penalty, distortion.shape)},
  )


def _moments(
  posterior: distributions.Groups, objective: str
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
  """Returns means and log variances of all latents, groups side by side."""
  for group in posterior.groups:
    if not isinstance(group, distributions.DiagonalNormal):
      raise ConfigError(
        f"config.objective.name is {objective}, which needs latents that are "
        "independent given the image: config.model.posterior.name must be "
        "diagonal_normal."
      )
  return (
    jnp.concatenate([g.mean for g in posterior.groups], axis=-1),
    jnp.concatenate([g.log_variance for g in posterior.groups], axis=-1),
  )
