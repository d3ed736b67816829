"""Latent diagnostics: KL, moments and information, per dimension and total."""

import dataclasses
import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from vae_jax import distributions, figures, models, objectives
from vae_jax.config import ConfigError
from vae_jax.data import datasets, pipeline
from vae_jax.data.batch import Batch
from vae_jax.latents import per_example, trained_model
from vae_jax.runtime import storage
from vae_jax.training.experiment import Experiment

Rows = Float[np.ndarray, "b d"]
PerDimension = Float[np.ndarray, " d"]
# Variance of the posterior mean above which a dimension is active.
_ACTIVE = 0.01
_BLOCK = 1 << 22  # Numbers in a block of differences code - mean.


@dataclasses.dataclass(frozen=True)
class Posteriors:
  """Posteriors q(z | x) of a split, one row per example, in its order."""

  mean: Rows
  log_variance: Rows
  sample: Rows  # One draw.
  rate: Float[
    np.ndarray, " b"
  ]  # KL(q || p), nats, or its estimate at the draw.
  distortion: Float[np.ndarray, " b"]  # -log p(x | z) at the draw, nats.
  kl: Rows | None = None  # Of each dimension, nats; None = no closed form.


def posteriors(
  experiment: Experiment, variables: models.Variables, source: datasets.Source
) -> Posteriors:
  """Returns the posterior of each example of a split, exactly once.

  Arguments are as in `per_example.rows`; `eval.batch_size` does not change the
  numbers.

  Raises:
    ConfigError: the posterior is not a diagonal normal.
  """
  name = experiment.config.model.posterior.name

  def encode(vae: models.Vae, batch: Batch) -> dict[str, jax.Array]:
    draw = objectives.one_draw(vae, batch)
    kinds = [type(group) for group in draw.posterior.groups]
    if kinds != [distributions.DiagonalNormal]:
      raise ConfigError(
        "KL per dimension, active units and mutual information need one group "
        "of latents with a DiagonalNormal posterior; the posterior of "
        f"config.model.posterior.name {name!r} is "
        f"{', '.join(kind.__name__ for kind in kinds)}."
      )
    (group,), (prior,) = draw.posterior.groups, draw.prior.groups
    row = {
      "mean": group.mean,
      "log_variance": group.log_variance,
      "sample": draw.z[0],
      "rate": draw.rate,
      "distortion": draw.distortion,
    }
    if group.has_kl(prior):
      row["kl"] = group.kl_per_dimension(prior)
    return row

  batches = list(per_example.rows(experiment, encode, variables, source))
  return Posteriors(
    **{k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  )


def active_units(mean: Rows) -> Bool[np.ndarray, " d"]:
  """Returns which dimensions are active: Var_x(E_q[z_u | x]) > 0.01.

  References:
    Burda et al., arXiv 1509.00519, section 5.2.
  """
  return np.var(mean, axis=0, dtype=np.float64) > _ACTIVE


def aggregate_moments(
  mean: Rows, log_variance: Rows
) -> tuple[PerDimension, PerDimension]:
  """Returns mean and variance of q(z) = E_x[q(z | x)], per dimension.

  By the law of total variance, Var(z) = E_x[Var(z | x)] + Var_x(E[z | x]).
  """
  mean = mean.astype(np.float64)
  within = np.exp(log_variance.astype(np.float64)).mean(axis=0)
  return mean.mean(axis=0), within + mean.var(axis=0)


def kl_to_aggregate(mean: Rows, log_variance: Rows) -> PerDimension:
  """Returns the KL of each dimension from its aggregate's moments, nats.

  E_x KL(q(z_j | x) || N(m_j, v_j)) = 1/2 (log v_j - E_x log Var(z_j | x)) with
  the moments m_j, v_j of q(z_j). It does not depend on the prior, and
  exceeds I(x; z_j) = E_x KL(q(z_j | x) || q(z_j)) by KL(q(z_j) || N(m_j, v_j)).
  """
  _, variance = aggregate_moments(mean, log_variance)
  within = log_variance.astype(np.float64).mean(axis=0)
  return 0.5 * (np.log(variance) - within)


@functools.partial(jax.jit, static_argnames="block")
def log_aggregate(
  z: Float[Array, "k d"],
  mean: Float[Array, "b d"],
  log_variance: Float[Array, "b d"],
  *,
  block: int,
) -> Float[Array, " k"]:
  """Returns log q(z) = log 1/b sum_j q(z | x_j), nats, at each of k codes.

  `block` codes at a time bound the memory and do not change the numbers.
  """
  mixture = distributions.DiagonalNormal(mean, log_variance)

  def log_density(code: Float[Array, " d"]) -> Float[Array, ""]:
    # Not as a matrix product of expanded squares, because float32 would lose
    # log q(z) in their differences if variances are small.
    log_probs = mixture.log_prob(jnp.broadcast_to(code, mean.shape))
    return jax.nn.logsumexp(log_probs) - math.log(len(mean))

  return jax.lax.map(log_density, z, batch_size=block)


def mutual_information(z: Rows, mean: Rows, log_variance: Rows) -> float:
  """Returns I(x; z) = E[log q(z | x) - log q(z)] under the encoder, nats.

  q(z) is the exact mixture of the b posteriors, and the mean is over one draw
  from each. This is the information I(n; z) about the index of the example, at
  most log b.

  References:
    Hoffman and Johnson, "ELBO surgery", NIPS workshop on approximate
    inference 2016, section 3.
  """
  z, mean, log_variance = map(jnp.asarray, (z, mean, log_variance))
  posterior = distributions.DiagonalNormal(mean, log_variance)
  block = max(1, _BLOCK // mean.size)
  log_mixture = log_aggregate(z, mean, log_variance, block=block)
  gain = posterior.log_prob(z) - log_mixture
  return float(np.asarray(gain, np.float64).mean())


def statistics(
  rows: Posteriors, *, max_examples: int, seed: int
) -> dict[str, Any]:
  """Returns the numbers of `latent_report`; `seed` chooses `max_examples`."""
  active = active_units(rows.mean)
  mean, variance = aggregate_moments(rows.mean, rows.log_variance)
  total, count = len(rows.mean), min(len(rows.mean), max_examples)
  chosen = np.sort(pipeline.example_order(seed, total, np.arange(count)))
  information = mutual_information(
    rows.sample[chosen], rows.mean[chosen], rows.log_variance[chosen]
  )
  rate = rows.rate.astype(np.float64)
  report = {
    "num_examples": total,
    "distortion": float(rows.distortion.mean(dtype=np.float64)),
    "rate": float(rate.mean()),
    "active_units": int(active.sum()),
    "mutual_information": information,
    "mutual_information_examples": count,
    # Of the same examples, because the difference is then a divergence.
    "marginal_kl": float(rate[chosen].mean()) - information,
    "variance_of_means": rows.mean.var(axis=0, dtype=np.float64).tolist(),
    "aggregate_mean": mean.tolist(),
    "aggregate_variance": variance.tolist(),
  }
  if rows.kl is not None:
    report["kl_per_dimension"] = rows.kl.mean(axis=0, dtype=float).tolist()
  return report


def latent_report(
  experiment: Experiment,
  variables: models.Variables,
  source: datasets.Source,
  folder: str | os.PathLike[str] | None,
  *,
  max_examples: int = 10_000,
) -> dict[str, Any]:
  """Diagnoses the latents of a split, and draws `<folder>/latents.png`.

  Args:
    experiment, variables, source: as `posteriors`.
    folder: of the picture; None = no picture.
    max_examples: number of examples, chosen by `config.eval.seed`, for the
      mutual information, whose cost is quadratic in it.

  Returns:
    A JSON-able dict, in nats where there is a unit: `rate` and `distortion`;
    `active_units`; `mutual_information` I(x; z) of
    `mutual_information_examples`; `marginal_kl`, KL(q(z) || p(z)), the rest of
    their rate; and one number per dimension: `variance_of_means`,
    `aggregate_mean`, `aggregate_variance` and, if it has a closed form,
    `kl_per_dimension`, which the picture needs.

  Raises:
    ConfigError: the posterior is not a diagonal normal.
  """
  rows = posteriors(experiment, variables, source)
  seed = experiment.config.eval.seed
  report = statistics(rows, max_examples=max_examples, seed=seed)
  if rows.kl is not None and folder is not None:
    figures.latent_diagnostics(
      rows.kl.mean(axis=0, dtype=np.float64),
      active_units(rows.mean),
      rows.mean,
      rows.sample,
      storage.path(folder) / "latents.png",
    )
  return report


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
  """Dimensions in descending order of the information they carry.

  The measure is one of
    "KL", nats: E_x KL(q(z_j | x) || p(z_j));
    "KL to q(z)", nats: the same to the normal with the moments of q(z_j), for
    priors without a closed form;
    "std": the standard deviation of the codes, for other posteriors than
    diagonal normals.
  """

  codes: Rows  # The posterior means that it was measured on.
  measure: str
  carried: PerDimension  # The measure of each dimension.

  @property
  def order(self) -> Integer[np.ndarray, " d"]:
    """Dimensions, largest measure first."""
    return np.argsort(-self.carried, kind="stable")


def rank(model: trained_model.TrainedModel, source: datasets.Source) -> Ranking:
  """Measures the dimensions on all images of a source."""
  try:
    rows = posteriors(model.experiment, model.replicated, source)
  except ConfigError:
    # Not a diagonal normal, so that no dimension has a KL of its own.
    codes, _ = model.first_codes(source, len(source))
    return Ranking(codes, "std", codes.std(axis=0, dtype=np.float64))
  if rows.kl is not None:
    return Ranking(rows.mean, "KL", rows.kl.mean(axis=0, dtype=np.float64))
  carried = kl_to_aggregate(rows.mean, rows.log_variance)
  return Ranking(rows.mean, "KL to q(z)", carried)
