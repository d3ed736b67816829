"""A function of the model applied to each example of a split, exactly once."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import tqdm
from flax import linen as nn

from vae_jax import models
from vae_jax.data import datasets, pipeline
from vae_jax.data.batch import Batch
from vae_jax.latents import apply
from vae_jax.runtime import devices as parallel
from vae_jax.runtime import watchdog
from vae_jax.training import step as train_step
from vae_jax.training.experiment import Experiment


def rows(
  experiment: Experiment,
  function: Callable[[models.Vae, Batch], Any],
  variables: Any,
  source: datasets.Source,
  *,
  bar: str = "",
) -> Iterator[Any]:
  """Yields function(vae, batch) of a split on the host, batch by batch.

  Device-parallel; the images and keys are those of the evaluated bound, which
  no batch size or number of devices changes.

  Args:
    experiment: of the run.
    function: of the bound model and a batch; a tree of arrays [b ...].
    variables: replicated parameters and model state.
    source: the split.
    bar: what a bar that shows the progress is called; "" = no bar.
  """
  config, vae = experiment.config, experiment.vae_eval

  def step(variables: Any, data: dict[str, jax.Array], seed: jax.Array) -> Any:
    batch = train_step.eval_batch(config, data, seed)
    side_inputs = models.side_inputs(label=batch.label, key=batch.key)
    run = nn.apply(function, vae)
    return parallel.all_gather(run({**variables, **side_inputs}, batch))

  mapped = parallel.pmap(step)
  batch_size = parallel.round_up(config.eval.batch_size)
  seed = parallel.replicate(np.uint32(config.eval.seed))
  total = len(source)
  starts = range(0, total, batch_size)
  batches = pipeline.prefetch(
    lambda start: pipeline.eval_data(source, start, batch_size),
    starts,
  )
  silent = not (bar and parallel.is_lead())
  with tqdm.tqdm(total=total, unit="img", desc=bar, disable=silent) as shown:
    for start, data in zip(starts, batches, strict=True):
      values = parallel.read_one(mapped(variables, parallel.shard(data), seed))
      # The padding is at the end.
      count = min(batch_size, total - start)
      yield jax.tree.map(lambda v, count=count: v[:count], values)
      watchdog.progress("evaluating")
      shown.update(count)


def samples(
  experiment: Experiment,
  variables: Any,
  count: int,
  labels: np.ndarray | None,
) -> Iterator[np.ndarray]:
  """Yields `count` decoded draws from the prior, uint8 [b h w c].

  Device-parallel; draw i is that of `latents.sample` with the same seed.

  Args:
    experiment: its config has `sample.seed` and `sample.temperature`.
    variables: replicated parameters and model state.
    count: number of draws.
    labels: of each draw, for a conditional model.
  """
  config, vae = experiment.config, experiment.vae_eval

  def step(variables: Any, data: dict[str, jax.Array]) -> jax.Array:
    side_inputs = models.side_inputs(label=data.get("label"))
    images = apply.sample(
      vae,
      {**variables, **side_inputs},
      data["index"],
      config.sample.seed,
      config.sample.temperature,
    )
    return parallel.all_gather(images)

  mapped = parallel.pmap(step)
  batch_size = parallel.round_up(config.eval.batch_size)
  devices = parallel.device_count()
  for start in range(0, count, batch_size):
    index = np.arange(start, start + batch_size, dtype=np.int32)
    data = {"index": index}
    if labels is not None:
      data["label"] = labels[index % count]
    split = {k: v.reshape(devices, -1, *v.shape[1:]) for k, v in data.items()}
    images = parallel.read_one(mapped(variables, parallel.shard_global(split)))
    yield images[: count - start]
