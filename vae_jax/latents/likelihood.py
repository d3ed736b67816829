"""Importance-sampled estimates of log p(x) of held-out images."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.data.batch import Batch
from vae_jax.latents import per_example
from vae_jax.objectives import iwae
from vae_jax.training.experiment import Experiment


def importance_nll(
  experiment: Experiment,
  variables: models.Variables,
  source: datasets.Source,
  *,
  num_samples: int,
  progress: bool = False,
) -> dict[str, Any]:
  """Returns the negative log-likelihood of a split, nats per image.

  Args:
    experiment, variables, source: as `per_example.rows`; `eval.seed` seeds the
      draws, and `eval.batch_size` does not change the numbers.
    num_samples: K, draws per image.

  Returns:
    `nll`, the mean of `nll_per_image`; `nll_stderr`, the standard error of
    that mean over images; `importance_samples`, K.

  Raises:
    ConfigError: `num_samples` is below 1, or the posterior has no density.
  """
  values = nll_per_image(
    experiment, variables, source, num_samples=num_samples, progress=progress
  )
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
  return {
    "nll": float(np.mean(values)),
    "nll_stderr": spread / math.sqrt(len(values)),
    "importance_samples": num_samples,
  }


def nll_per_image(
  experiment: Experiment,
  variables: models.Variables,
  source: datasets.Source,
  *,
  num_samples: int,
  progress: bool = False,
  max_rows: int = 2048,
  seed: int | None = None,
) -> Float[np.ndarray, " n"]:
  """Returns -log 1/K sum_k p(x, z_k) / q(z_k | x) of each image, nats.

  Its expectation is at least -log p(x) and decreases towards it as K grows; at
  K = 1 it is the negative ELBO. Draw k of an image is a function of the seed,
  the image's index and k, whatever the batch size, the number of devices and
  K. Each image is binarized, or dequantized, once for all of its draws.

  Args and Raises: as `importance_nll`, and
    max_rows: codes that a device decodes at a time; bounds the memory and
      does not change the numbers. 2048 rows of a small network fit into the
      caches of a CPU.
    seed: of the draws; None = `config.eval.seed`.

  References:
    Burda, Grosse and Salakhutdinov, arXiv 1509.00519, section 5 (K = 5,000).
  """
  if num_samples < 1:
    raise ConfigError(f"num_samples is {num_samples}; it must be at least 1.")
  log_p = per_example.rows(
    experiment,
    _estimator(num_samples, max_rows),
    variables,
    source,
    bar="likelihood" if progress else "",
    seed=seed,
  )
  return -np.concatenate(list(log_p)).astype(np.float64)


@functools.lru_cache(maxsize=4)
def _estimator(
  num_samples: int, max_rows: int
) -> Callable[[models.Vae, Batch], jax.Array]:
  """Returns `_log_p` of these arguments, always the same object."""
  return functools.partial(_log_p, num_samples=num_samples, max_rows=max_rows)


def _log_p(
  vae: models.Vae, batch: Batch, *, num_samples: int, max_rows: int
) -> Float[Array, " b"]:
  """Returns the estimate of log p(x) of each example."""
  # Unbound, because a loop may not use a module bound outside of it.
  vae, variables = vae.unbind()
  posterior = nn.apply(lambda v: v.encode(batch.image), vae)(variables)
  if any(isinstance(g, distributions.Deterministic) for g in posterior.groups):
    raise ConfigError(
      "log p(x) is estimated with draws from a posterior with a density; the "
      "posterior of this run is deterministic."
    )

  def log_w(vae: models.Vae, draws: jax.Array) -> Float[Array, "k b"]:
    z, log_q = iwae.sample(posterior, batch.key, draws)
    weighted = iwae.weigh(vae, batch.image, z, log_q)
    return jnp.where((draws < num_samples)[:, None], weighted.log_w, -jnp.inf)

  images = len(batch.index)
  chunks = math.ceil(num_samples / max(1, max_rows // images))
  size = math.ceil(num_samples / chunks)

  def add(chunk: jax.Array, carry: tuple) -> tuple:
    largest, total = carry
    draws = chunk * size + jnp.arange(size)
    values = nn.apply(log_w, vae)(variables, draws)
    top = jnp.maximum(largest, values.max(axis=0))
    # The sum is relative to the largest weight so far, because a running
    # logarithm would round at each of thousands of chunks.
    total *= jnp.exp(largest - top)
    return top, total + jnp.exp(values - top[None]).sum(axis=0)

  # Finite, because the difference of two infinities is nan.
  start = jnp.full((images,), jnp.finfo(jnp.float32).min)
  largest, total = lax.fori_loop(0, chunks, add, (start, jnp.zeros((images,))))
  return largest + jnp.log(total) - math.log(num_samples)
