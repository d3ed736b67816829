"""Functions of the model, applied to each example of a split exactly once."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import linen as nn
from tqdm import auto as tqdm

from vae_jax import models
from vae_jax.data import datasets, pipeline
from vae_jax.data.batch import Batch
from vae_jax.latents import apply
from vae_jax.runtime import devices, watchdog
from vae_jax.training import batch as batch_lib
from vae_jax.training.experiment import Experiment


def rows(
  experiment: Experiment,
  function: Callable[[models.Vae, Batch], models.PyTree],
  variables: models.Variables,
  source: datasets.Source,
  *,
  bar: str = "",
) -> Iterator[models.PyTree]:
  """Yields function(vae, batch) of a split on the host, batch by batch.

  The function runs on all devices. Images and keys are those of the evaluated
  bound: they depend on neither the batch size nor the number of devices.

  Args:
    function: of the bound model and a batch; returns a tree of arrays [b ...].
    variables: replicated parameters and model state.
    source: the split.
    bar: name of the progress bar; "" = no bar.
  """
  config, vae = experiment.config, experiment.vae_eval

  def step(
    variables: models.Variables, data: dict[str, jax.Array], seed: jax.Array
  ) -> models.PyTree:
    batch = batch_lib.eval_batch(config, data, seed)
    inputs = models.side_inputs(label=batch.label, key=batch.key)
    values = nn.apply(function, vae)({**variables, **inputs}, batch)
    return devices.all_gather(values)

  mapped = devices.pmap(step)
  seed = devices.replicate(np.uint32(config.eval.seed))
  for data, count in batches(source, config.eval.batch_size, bar):
    values = devices.read_one(mapped(variables, data, seed))
    # Without the padding, which is at the end.
    yield jax.tree.map(lambda v, count=count: v[:count], values)


def batches(
  source: datasets.Source, batch_size: int, bar: str
) -> Iterator[tuple[dict[str, jax.Array], int]]:
  """Yields the examples of a split on the devices, and their number.

  `batch_size` is over all devices, rounded up to a multiple of them; the last
  batch is padded. `bar` names the progress bar; "" = no bar.
  """
  batch_size = devices.round_up(batch_size)
  total = len(source)
  starts = range(0, total, batch_size)
  arrays = pipeline.prefetch(
    lambda start: pipeline.eval_data(source, start, batch_size), starts
  )
  hidden = not (bar and devices.is_lead())
  with tqdm.tqdm(total=total, unit="img", desc=bar, disable=hidden) as progress:
    for start, data in zip(starts, arrays, strict=True):
      count = min(batch_size, total - start)
      yield devices.shard(data), count
      watchdog.progress("evaluating")
      progress.update(count)


def samples(
  experiment: Experiment,
  variables: models.Variables,
  count: int,
  labels: np.ndarray | None,
) -> Iterator[np.ndarray]:
  """Yields `count` decoded draws from the prior, uint8 [b h w c].

  They are computed on all devices; draw i is that of `apply.sample` with
  `config.sample`'s seed and temperature. `labels` are of each draw; None for
  an unconditional model.
  """
  config, vae = experiment.config, experiment.vae_eval

  def step(
    variables: models.Variables, data: dict[str, jax.Array]
  ) -> jax.Array:
    inputs = {**variables, **models.side_inputs(label=data.get("label"))}
    seed, temperature = config.sample.seed, config.sample.temperature
    return devices.all_gather(
      apply.sample(vae, inputs, data["index"], seed, temperature)
    )

  mapped = devices.pmap(step)
  batch_size = devices.round_up(config.eval.batch_size)
  for start in range(0, count, batch_size):
    data = {"index": np.arange(start, start + batch_size, dtype=np.int32)}
    if labels is not None:
      data["label"] = labels[data["index"] % count]
    lead = devices.device_count(), -1
    split = {k: v.reshape(*lead, *v.shape[1:]) for k, v in data.items()}
    images = devices.read_one(mapped(variables, devices.shard_global(split)))
    yield images[: count - start]
