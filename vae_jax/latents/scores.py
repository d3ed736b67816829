"""Numbers of single images: the objective's terms and log p(x), in nats."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from vae_jax import models, objectives
from vae_jax.data import datasets
from vae_jax.data.batch import Batch
from vae_jax.distributions import pixels
from vae_jax.latents import likelihood, per_example
from vae_jax.latents.opened import Opened
from vae_jax.training import batch_statistics

_ERROR = "squared_error"
_FIRST = ("loss", "distortion", "rate", "neg_elbo", _ERROR)


def of_images(
  model: Opened,
  source: datasets.Source,
  *,
  samples: int = 0,
  seed: int | None = None,
  progress: bool = False,
) -> dict[str, Float[np.ndarray, " n"]]:
  """Returns the terms of each image of a source, by name.

  They are those whose means `--mode=evaluate` prints: the objective's, with
  its batches of `config.eval.batch_size`, and with `samples` > 0 `nll`, the
  importance-weighted estimate of -log p(x) from as many draws. Where the
  objective has no `squared_error`, it is that of the reconstruction, summed
  over pixels in [0, 1].

  Args:
    model: the model.
    source: the images, and the labels of a conditional model.
    samples: draws per image for `nll`; 0 = without.
    seed: of all draws; None = `config.eval.seed`.
    progress: whether a bar shows it.

  Raises:
    ConfigError: the posterior has no density, for `samples` > 0.
  """
  batches = per_example.rows(
    model.experiment,
    _terms(model.experiment.objective),
    model.replicated,
    source,
    bar="score" if progress else "",
    step=model.step,
    seed=seed,
    independent=lambda: (
      not batch_statistics.has(model.experiment, model.variables, source)
    ),
  )
  parts = list(batches)
  names = [n for n in _FIRST if n in parts[0]]
  names += sorted(set(parts[0]) - set(names))
  terms = {n: np.concatenate([p[n] for p in parts]) for n in names}
  if samples:
    terms["nll"] = likelihood.nll_per_image(
      model.experiment,
      model.replicated,
      source,
      num_samples=samples,
      seed=seed,
      progress=progress,
    )
  return terms


@functools.lru_cache(maxsize=4)
def _terms(
  objective: objectives.Objective,
) -> Callable[[models.Vae, Batch], dict[str, jax.Array]]:
  """Returns the objective's terms by name, always as the same function."""

  def run(vae: models.Vae, batch: Batch) -> dict[str, jax.Array]:
    terms = objective(vae, batch).named()
    if _ERROR not in terms:
      mean = vae.decode(vae.encode(batch.image).mean).mean
      terms[_ERROR] = pixels.squared_error(batch.image, mean)
    return terms

  return run


def auroc(
  positive: Float[np.ndarray, " n"], negative: Float[np.ndarray, " m"]
) -> float | None:
  """Returns the probability that a positive has the higher score than a
  negative, ties counted half; None if there are only the ones or the others,
  or a score is nan.

  It is the area under the curve of true against false positives.

  References:
    Hanley and McNeil, Radiology 143(1), 1982.
  """
  if not len(positive) or not len(negative):
    return None
  if np.isnan(positive).any() or np.isnan(negative).any():
    return None
  ordered = np.sort(negative)
  below = np.searchsorted(ordered, positive, "left")
  not_above = np.searchsorted(ordered, positive, "right")
  return float((below + not_above).mean() / (2 * len(negative)))
