"""log p(x) of held-out images, estimated from many weighted draws."""

import functools
import math
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
from vae_jax.evaluate import per_example
from vae_jax.objectives import iwae
from vae_jax.training.experiment import Experiment

# Codes that a device decodes at a time. Memory follows it, and not the number
# of draws; a CPU's caches hold what a small network makes of so many.
_ROWS = 2048


def importance_nll(
  experiment: Experiment,
  variables: Any,
  source: datasets.Source,
  *,
  num_samples: int,
  progress: bool = False,
) -> dict[str, Any]:
  """Returns the negative log-likelihood of a split, nats per image.

  Args:
    experiment: of the run; its `eval.seed` is of the sampling, and
      `eval.batch_size` changes no number.
    variables: replicated parameters and model state.
    source: the split.
    num_samples: K, draws per image.
    progress: whether to show a bar.

  Returns:
    `nll`, the mean of `nll_per_image`; `nll_stderr`, the standard error of
    that mean over images; `importance_samples`, K.

  Raises:
    ConfigError: there is no draw.
  """
  values = nll_per_image(
    experiment,
    variables,
    source,
    num_samples=num_samples,
    progress=progress,
  )
  count = len(values)
  spread = float(np.std(values, ddof=1)) if count > 1 else math.nan
  return {
    "nll": float(np.mean(values)),
    "nll_stderr": spread / math.sqrt(count),
    "importance_samples": num_samples,
  }


def nll_per_image(
  experiment: Experiment,
  variables: Any,
  source: datasets.Source,
  *,
  num_samples: int,
  progress: bool = False,
) -> Float[np.ndarray, " n"]:
  """Returns -log 1/K sum_k p(x, z_k) / q(z_k | x) of each image, nats.

  In expectation never below -log p(x), to which it falls as K grows, from the
  negative ELBO at K = 1. Draw k of an image depends on the seed, the image's
  index and k alone: neither batches nor devices nor K change it. Pixels are
  binarised, and dequantised, once for all draws of an image.

  Args and Raises: see `importance_nll`.

  References:
    Burda, Grosse and Salakhutdinov, arXiv 1509.00519, section 5 (K = 5,000).
  """
  if num_samples < 1:
    raise ConfigError(f"num_samples is {num_samples}; it must be at least 1.")
  parts = per_example.rows(
    experiment,
    functools.partial(_log_p, num_samples=num_samples),
    variables,
    source,
    bar="likelihood" if progress else "",
  )
  return -np.concatenate(list(parts)).astype(np.float64)


def _log_p(
  vae: models.Vae, batch: Batch, *, num_samples: int
) -> Float[Array, " b"]:
  """Returns the estimate of log p(x) of each example."""
  # Unbound: a loop may not hold a module that was bound outside of it.
  vae, variables = vae.unbind()
  posterior = nn.apply(lambda v: v.encode(batch.image), vae)(variables)
  if any(isinstance(g, distributions.Deterministic) for g in posterior.groups):
    raise ConfigError(
      "log p(x) is estimated with draws from a posterior with a density; that "
      "of this run is deterministic."
    )

  def log_w(vae: models.Vae, draws: jax.Array) -> Float[Array, "k b"]:
    z, log_q = iwae.sample(posterior, batch.key, draws)
    drawn = iwae.weigh(vae, batch.image, z, log_q)
    return jnp.where((draws < num_samples)[:, None], drawn.log_w, -jnp.inf)

  images = len(batch.index)
  chunks = math.ceil(num_samples / max(1, _ROWS // images))
  size = math.ceil(num_samples / chunks)

  def add(chunk: jax.Array, carry: tuple) -> tuple:
    largest, total = carry
    draws = chunk * size + jnp.arange(size)
    values = nn.apply(log_w, vae)(variables, draws)
    top = jnp.maximum(largest, values.max(axis=0))
    # A sum relative to the largest weight so far keeps its digits, where a
    # running logarithm would round at each of thousands of chunks.
    total *= jnp.exp(largest - top)
    return top, total + jnp.exp(values - top[None]).sum(axis=0)

  # Finite, as the difference of two infinities would be no number.
  start = jnp.full((images,), jnp.finfo(jnp.float32).min)
  largest, total = lax.fori_loop(0, chunks, add, (start, jnp.zeros((images,))))
  return largest + jnp.log(total) - math.log(num_samples)
