"""The bound on held-out data: every example once, the same number always."""

import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from ml_collections import ConfigDict

from vae_jax import build, checkpoint, metrics, parallel, train_step
from vae_jax.data import cache, datasets, pipeline


def mean_terms(
  eval_step: Callable[..., dict[str, Any]],
  variables: Any,
  source: Any,
  *,
  batch_size: int,
  step: int,
  seed: int,
  progress: bool = False,
) -> dict[str, float]:
  """Returns the objective's terms, averaged over a split, in nats.

  Args:
    eval_step: of `train_step.make_eval_step`.
    variables: replicated parameters and model state.
    source: the split.
    batch_size: images at a time over all devices, rounded up to a multiple
      of them; changes no number.
    step: optimiser steps so far, for schedules inside the objective.
    seed: of the sampling.
    progress: whether to show a bar.

  Returns:
    {name: mean over examples} and "num_examples".
  """
  batch_size = parallel.round_up(batch_size)
  means = metrics.MaskedMeans()
  replicated = parallel.replicate((np.int32(step), np.uint32(seed)))
  starts = range(0, len(source), batch_size)
  batches = pipeline.prefetch(
    lambda start: pipeline.eval_data(source, start, batch_size), starts
  )
  bar = tqdm.tqdm(
    total=len(source), unit="img", desc="evaluate", disable=not progress
  )
  with bar:
    for data in batches:
      sums = eval_step(variables, parallel.shard(data), *replicated)
      means.add(parallel.read_one(sums))
      bar.update(int(data["mask"].sum()))
  return means.result()


def evaluate(config: ConfigDict, workdir: str) -> dict[str, Any]:
  """Evaluates a run on `config.eval.split`: its newest checkpoint, or its
  best one, as `config.eval.checkpoint` says.

  Writes `<workdir>/eval/<split>.json` and returns what it wrote: the means of
  all terms in nats per image, bits/dim, and what the numbers depend on.

  Raises:
    ConfigError: there is no run.
  """
  best = config.eval.checkpoint == "best"
  state = checkpoint.load_state(workdir, best=best)
  splits = datasets.open_splits(config.data)
  split = config.eval.split
  source = cache.open_source(getattr(splits, split), config.data)
  shape = build.image_shape(config)
  variables = parallel.replicate(
    {
      "params": train_step.eval_params(config, state),
      **state.model_state,
    }
  )
  means = mean_terms(
    train_step.make_eval_step(config, shape),
    variables,
    source,
    batch_size=config.eval.batch_size,
    step=int(state.step),
    seed=config.eval.seed,
    progress=True,
  )
  means.update(bits(config, shape, means))
  result = {
    **metrics.finite(means),
    "split": split,
    "data": splits.name,
    "data_split": splits.split_strings[split],
    "step": int(state.step),
    "checkpoint": config.eval.checkpoint,
    "seed": config.eval.seed,
    "objective": config.objective.name,
    "likelihood": config.model.likelihood.name,
    "binarization": config.data.binarization,
    "weights": "averaged" if config.optim.ema_decay else "last",
  }
  metrics.write_json(pathlib.Path(workdir) / "eval" / f"{split}.json", result)
  return result


def bits(
  config: ConfigDict, shape: tuple[int, int, int], means: dict[str, float]
) -> dict[str, Any]:
  """Returns "bits_per_dim" of neg_elbo, and in words what it is the bits of.

  Without a rate there is no bound, and bits_per_dim is None.
  """
  likelihood = build.likelihood_class(config)
  density = likelihood.is_density
  words = "density per grey level" if density else "probability"
  if not density and config.data.binarization == "none":
    words = "cross-entropy of grey pixels, no likelihood"
  value = None
  if math.isfinite(means.get("neg_elbo", math.nan)):
    dims = math.prod(shape)
    value = metrics.bits_per_dim(means["neg_elbo"], dims, is_density=density)
  return {"bits_per_dim": value, "bits_of": words}


def table(result: dict[str, Any]) -> str:
  """Returns an evaluation as lines of name, value and unit."""
  units = {
    "bits_per_dim": "bits",
    "effective_samples": "draws",
    "importance_samples": "draws per image",
    "num_examples": "images",
    "step": "steps",
  }
  lines = []
  for name, value in result.items():
    if isinstance(value, float):
      unit = units.get(name, "" if name == "sigma" else "nats per image")
      if name == "squared_error":
        unit = "per image, pixels in [0, 1]"
      lines.append(f"{name:>20}  {value:12.4f}  {unit}")
    else:
      shown = "none" if value is None else value
      lines.append(f"{name:>20}  {shown!s:>12}  {units.get(name, '')}")
  return "\n".join(line.rstrip() for line in lines)
