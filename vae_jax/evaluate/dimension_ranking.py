"""Ranks the dimensions of a latent space by the information they carry."""

import dataclasses

import numpy as np
from jaxtyping import Float, Integer

from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.evaluate import diagnostics
from vae_jax.latents import trained_model


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
  """Dimensions in descending order of the information they carry.

  Attributes:
    codes: the posterior means that it was measured on.
    measure: what `carried` is, one of
      "KL", nats: E_x KL(q(z_j | x) || p(z_j));
      "KL to q(z)", nats: the same to the normal with the moments of q(z_j), for
      priors without a closed form;
      "std": the standard deviation of the codes, for posteriors that are not
      diagonal normals.
    carried: the measure of each dimension.
    order: dimensions, largest measure first.
  """

  codes: Float[np.ndarray, "n d"]
  measure: str
  carried: Float[np.ndarray, " d"]

  @property
  def order(self) -> Integer[np.ndarray, " d"]:
    """Dimensions, largest measure first."""
    return np.argsort(-self.carried, kind="stable")


def rank(model: trained_model.TrainedModel, source: datasets.Source) -> Ranking:
  """Measures the dimensions on all images of a source.

  Args:
    model: the model.
    source: the images, such as the first of a split.
  """
  try:
    rows = diagnostics.posteriors(model.experiment, model.replicated, source)
  except ConfigError:
    # Not a diagonal normal, so that no dimension has a KL of its own.
    codes, _ = model.first_codes(source, len(source))
    return Ranking(codes, "std", codes.std(axis=0, dtype=np.float64))
  if rows.kl is not None:
    return Ranking(rows.mean, "KL", rows.kl.mean(axis=0, dtype=np.float64))
  carried = diagnostics.kl_to_aggregate(rows.mean, rows.log_variance)
  return Ranking(rows.mean, "KL to q(z)", carried)
