"""What the dimensions of a model's latents carry, on part of the test split."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Integer

from vae_jax.data import datasets
from vae_jax.evaluate import dimension_ranking
from vae_jax.latents import trained_model

_MOST = 2000  # Images looked at.


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
  """The codes of the first images of the test split, and their dimensions.

  Attributes:
    codes: posterior means.
    labels: classes [n] or attributes [n a] of the images; None without.
    label_names: of the classes or attributes; None without.
    order: the dimensions, those that carry most first.
    carried: of each dimension, see `dimension_ranking.Ranking`.
    is_kl: whether that is in nats; else it is a standard deviation.
    unit: the prior's standard deviation by dimension; that of the codes where
      the prior is not N(0, I).
    prior: whether the prior is N(0, I).
  """

  codes: Float32[np.ndarray, "n d"]
  labels: Integer[np.ndarray, "n ..."] | None
  label_names: tuple[str, ...] | None
  order: Integer[np.ndarray, " d"]
  carried: Float[np.ndarray, " d"]
  is_kl: bool
  unit: Float32[np.ndarray, " d"]
  prior: bool


def survey(
  model: trained_model.TrainedModel, source: datasets.Source
) -> Survey:
  """Encodes the first images of a split.

  Args:
    model: the model.
    source: the split.
  """
  first = datasets.First(source, _MOST)
  ranking = dimension_ranking.rank(model, first)
  is_kl = ranking.measure != "std"
  prior = (
    model.config.model.prior.name == "standard_normal"
    and ranking.measure == "KL"
  )
  unit = np.ones(ranking.codes.shape[1], np.float32)
  if not prior:
    unit = ranking.codes.std(axis=0, dtype=np.float64).astype(np.float32)
  data = first.fetch(np.arange(len(first)))
  return Survey(
    codes=ranking.codes,
    labels=data.get("label"),
    label_names=model.experiment.splits.label_names,
    order=ranking.order,
    carried=ranking.carried,
    is_kl=is_kl,
    unit=unit,
    prior=prior,
  )
