"""The objective's terms on held-out data: a mean over each example once."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vae_jax import models
from vae_jax.data import datasets
from vae_jax.latents import per_example
from vae_jax.runtime import devices, watchdog
from vae_jax.training import memory, metrics
from vae_jax.training.experiment import Experiment


def mean_terms(
  eval_step: Callable[..., dict[str, Any]],
  variables: models.Variables,
  source: datasets.Source,
  *,
  batch_size: int,
  step: int,
  seed: int,
  independent: Callable[[], bool] = lambda: False,
  progress: bool = False,
) -> dict[str, float]:
  """Returns the objective's terms averaged over a split, in nats.

  Args:
    eval_step: of `training.step.make_eval_step`.
    variables, source: as `per_example.rows`.
    batch_size: images at a time over all devices, rounded up to a multiple of
      their number; only losses with a statistic of the batch depend on it.
    step: number of optimizer steps, for schedules of the objective.
    independent: returns whether the loss has no statistic of the batch, which
      is then halved while the devices have too little memory.

  Returns:
    {name: mean over examples} and "num_examples".
  """
  replicated = devices.replicate((np.int32(step), np.uint32(seed)))
  bar = "evaluate" if progress else ""
  while True:
    means = metrics.MaskedMeans()
    try:
      with watchdog.armed():
        for data, _ in per_example.batches(source, batch_size, bar):
          sums = eval_step(variables, data, *replicated)
          watchdog.progress(watchdog.COMPUTING)
          means.add(devices.read_one(sums))
      return means.result()
    except jax.errors.JaxRuntimeError as error:
      batch_size = memory.halved(error, batch_size, independent)


def bits(experiment: Experiment, means: dict[str, float]) -> dict[str, Any]:
  """Returns "bits_per_dim" of neg_elbo and "bits_of", their meaning in words.

  bits_per_dim is None if the objective has no rate, hence no bound.
  """
  config, likelihood = experiment.config, experiment.vae_eval.likelihood
  density = getattr(likelihood, "is_density", None)
  if density is None:
    words = f"unknown: {type(likelihood).__name__} has no is_density"
    return {"bits_per_dim": None, "bits_of": words}
  dequantized = config.data.dequantization == "uniform"
  value, dims = None, math.prod(experiment.image_shape)
  if math.isfinite(means.get("neg_elbo", math.nan)):
    value = metrics.bits_per_dim(
      means["neg_elbo"], dims, is_density=density, dequantized=dequantized
    )
  modeled_bits = getattr(likelihood, "bits", None)
  if density and dequantized:
    words = "bound on the probability of gray levels, uniform dequantization"
  elif density:
    words = "density per gray level"
  elif modeled_bits is not None:
    words = f"probability of {modeled_bits}-bit gray levels"
  elif config.data.binarization == "none":
    words = "cross-entropy of gray pixels, no likelihood"
  else:
    words = "probability"
  return {"bits_per_dim": value, "bits_of": words}
