"""What the dimensions of a model's latents carry, on part of the test split."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Integer

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.data.batch import Batch
from vae_jax.evaluate import diagnostics, per_example
from vae_jax.latents import trained_model
from vae_jax.runtime import devices

_MOST = 2000  # Images looked at.


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
  """The codes of the first images of the test split, and their dimensions.

  Attributes:
    codes: posterior means.
    labels: classes [n] or attributes [n a] of the images; None without.
    label_names: of the classes or attributes; None without.
    order: the dimensions, those that carry most first.
    carried: mean KL from the prior by dimension, nats; where that has no
      closed form, the variance of the codes.
    is_kl: which of the two.
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
  config = model.config
  first = datasets.First(source, _MOST)
  variables = devices.replicate(model.variables)
  kl = None
  try:
    rows = diagnostics.posteriors(model.experiment, variables, first)
    codes, kl = rows.mean, rows.kl
  except ConfigError:
    # No diagonal normal: codes all the same.
    def means(vae: models.Vae, batch: Batch) -> jax.Array:
      return jnp.concatenate(vae.encode(batch.image).mean, axis=-1)

    rows = per_example.rows(model.experiment, means, variables, first)
    codes = np.concatenate(list(rows))
  carried = codes.var(axis=0, dtype=np.float64)
  if kl is not None:
    carried = kl.mean(axis=0, dtype=np.float64)
  prior = config.model.prior.name == "standard_normal" and kl is not None
  unit = np.ones(codes.shape[1], np.float32)
  if not prior:
    unit = codes.std(axis=0, dtype=np.float64).astype(np.float32)
  data = first.fetch(np.arange(len(first)))
  return Survey(
    codes=codes,
    labels=data.get("label"),
    label_names=model.experiment.splits.label_names,
    order=np.argsort(-carried, kind="stable"),
    carried=carried,
    is_kl=kl is not None,
    unit=unit,
    prior=prior,
  )
