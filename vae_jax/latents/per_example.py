"""Functions of the model, applied to each example of a split exactly once."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import linen as nn

from vae_jax import models
from vae_jax.data import datasets, pipeline
from vae_jax.data.batch import Batch
from vae_jax.latents import apply
from vae_jax.runtime import bars, devices, watchdog
from vae_jax.training import batch as batch_lib
from vae_jax.training import memory
from vae_jax.training.experiment import Experiment


def rows(
  experiment: Experiment,
  function: Callable[[models.Vae, Batch], models.PyTree],
  variables: models.Variables,
  source: datasets.Source,
  *,
  bar: str = "",
  step: int = 0,
  seed: int | None = None,
  independent: Callable[[], bool] = lambda: True,
) -> Iterator[models.PyTree]:
  """Yields function(vae, batch) of a split on the host, batch by batch.

  The function runs on all devices. Images and keys are those of the evaluated
  bound: they depend on neither the batch size nor the number of devices. The
  batch is halved while the devices have too little memory.

  Args:
    function: of the bound model and a batch; returns a tree of arrays [b ...].
      The same function again is not compiled again.
    variables: replicated parameters and model state.
    source: the split.
    bar: name of the progress bar; "" = no bar.
    step: optimizer steps, for schedules inside an objective.
    seed: of binarization and all draws; None = `config.eval.seed`.
    independent: returns whether the function has no statistic of the batch,
      which may then be halved.

  Raises:
    ConfigError: the devices have too little memory.
  """
  config = experiment.config
  mapped = _mapped(experiment, function)
  seed = config.eval.seed if seed is None else seed
  replicated = devices.replicate((np.uint32(seed), np.int32(step)))
  batch_size, done = config.eval.batch_size, 0
  with memory.explain_oom(config, evaluating=True):
    while done < len(source):
      try:
        for data, count in batches(source, batch_size, bar, first=done):
          values = devices.read_one(mapped(variables, data, *replicated))
          done += count
          # Without the padding, which is at the end.
          yield jax.tree.map(lambda v, count=count: v[:count], values)
      except jax.errors.JaxRuntimeError as error:
        batch_size = memory.halved(error, batch_size, independent)


@functools.lru_cache(maxsize=4)
def _mapped(
  experiment: Experiment, function: Callable[[models.Vae, Batch], models.PyTree]
) -> Callable[..., models.PyTree]:
  """Returns the function, compiled once for all calls with the same one."""

  def run(
    variables: models.Variables,
    data: dict[str, jax.Array],
    seed: jax.Array,
    step: jax.Array,
  ) -> models.PyTree:
    batch = batch_lib.eval_batch(experiment.config, data, seed, step)
    inputs = models.side_inputs(label=batch.label, key=batch.key)
    values = nn.apply(function, experiment.vae_eval)(
      {**variables, **inputs}, batch
    )
    return devices.all_gather(values)

  return devices.pmap(run)


def batches(
  source: datasets.Source, batch_size: int, bar: str, *, first: int = 0
) -> Iterator[tuple[dict[str, jax.Array], int]]:
  """Yields the examples of a split from the `first` on, on the devices, and
  their number.

  `batch_size` is over all devices, rounded up to a multiple of them; the last
  batch is padded. `bar` names the progress bar; "" = no bar.
  """
  batch_size = devices.round_up(batch_size)
  total = len(source)
  starts = range(first, total, batch_size)
  arrays = pipeline.prefetch(
    lambda start: pipeline.eval_data(source, start, batch_size), starts
  )
  hidden = not (bar and devices.is_lead())
  with bars.Bar(total, bar, "images", shown=not hidden) as progress:
    progress.update(first)
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
  batch_size, done = devices.round_up(config.eval.batch_size), 0
  lead = devices.device_count(), -1
  with memory.explain_oom(config, evaluating=True):
    while done < count:
      data = {"index": np.arange(done, done + batch_size, dtype=np.int32)}
      if labels is not None:
        data["label"] = labels[data["index"] % count]
      split = {k: v.reshape(*lead, *v.shape[1:]) for k, v in data.items()}
      try:
        images = devices.read_one(
          mapped(variables, devices.shard_global(split))
        )
      except jax.errors.JaxRuntimeError as error:
        batch_size = memory.halved(error, batch_size, lambda: True)
        continue
      yield images[: count - done]
      done += batch_size
