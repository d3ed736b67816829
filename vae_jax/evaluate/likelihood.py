"""The negative log-likelihood of held-out images, by importance sampling."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from vae_jax import build, models, parallel, train_step
from vae_jax.data import pipeline
from vae_jax.objectives import importance

# Images times draws that a device decodes at a time: enough to fill matrix
# products, and few enough to stay in a CPU's cache.
_CHUNK = 1024


def make_nll_step(
  config: ConfigDict, shape: tuple[int, int, int]
) -> Callable[..., jax.Array]:
  """Returns `(variables, data, count, seed) -> NLL of each image`, mapped.

  -log 1/K sum_k p(x, z_k) / q(z_k | x), z_k ~ q(z | x): in expectation an
  upper bound on -log p(x) that falls to it as K grows. K = `count` is an
  argument: one program for all, in memory that does not depend on it. Draw k
  of an image depends on the seed, its index and k alone. Each device's result
  holds the global batch, padding included.

  References:
    Burda, Grosse and Salakhutdinov, arXiv 1509.00519, section 5.
  """
  vae = build.model(config, shape, train=False)

  def nll_step(
    variables: Any,
    data: dict[str, jax.Array],
    count: jax.Array,
    seed: jax.Array,
  ) -> jax.Array:
    batch = train_step.eval_batch(config, data, seed)
    given = models.given(label=batch.label, key=batch.key)
    variables = {**variables, **given}
    size = len(batch.mask)
    chunk = max(1, _CHUNK // size)
    posterior = nn.apply(lambda vae: vae.encode(batch.image), vae)(variables)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
      draws = i * chunk + jnp.arange(chunk)
      keys = importance.draw_keys(batch.key, draws)
      z, log_q = jax.vmap(posterior.sample_and_log_prob)(keys)
      weigh = nn.apply(
        lambda vae: importance.weigh(vae, batch.image, z, log_q).log_w, vae
      )
      # The last chunk may reach beyond K.
      log_w = jnp.where(draws[:, None] < count, weigh(variables), -jnp.inf)
      return jnp.logaddexp(total, jax.nn.logsumexp(log_w, axis=0))

    chunks = (count + chunk - 1) // chunk
    total = lax.fori_loop(0, chunks, add, jnp.full((size,), -jnp.inf))
    return parallel.all_gather(jnp.log(count.astype(jnp.float32)) - total)

  return parallel.pmap(nll_step)


def importance_nll(
  config: ConfigDict,
  variables: Any,
  source: Any,
  *,
  num_samples: int,
  batch_size: int,
  seed: int,
  progress: bool = False,
) -> dict[str, Any]:
  """Returns the importance-weighted negative log-likelihood of a split.

  Args:
    config: the resolved config.
    variables: replicated parameters and model state.
    source: the split; each image counts once.
    num_samples: K, draws per image.
    batch_size: images at a time over all devices; changes no number.
    seed: of the draws, and of the binarisation.
    progress: whether to show a bar.

  Returns:
    "nll", nats per image; "nll_stderr", its standard error over the images
    as if they were drawn at random; "importance_samples", K.

  Raises:
    ConfigError: the posterior has no density.
  """
  step = make_nll_step(config, build.image_shape(config))
  batch_size = parallel.round_up(min(batch_size, len(source)))
  replicated = parallel.replicate((np.int32(num_samples), np.uint32(seed)))
  batches = pipeline.prefetch(
    lambda start: pipeline.eval_data(source, start, batch_size),
    range(0, len(source), batch_size),
  )
  bar = tqdm.tqdm(
    total=len(source), unit="img", desc="likelihood", disable=not progress
  )
  parts = []
  with bar:
    for data in batches:
      mask = data["mask"].reshape(-1)
      found = step(variables, parallel.shard(data), *replicated)
      parts.append(parallel.read_one(found)[mask])
      bar.update(int(mask.sum()))
  nll = np.concatenate(parts).astype(np.float64)
  return {
    "nll": float(nll.mean()),
    "nll_stderr": float(nll.std() / math.sqrt(len(nll))),
    "importance_samples": num_samples,
  }
