"""Prepares a run: data, model, workdir, the compiled step and the report."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import objectives
from vae_jax.config import ConfigError
from vae_jax.config import check as config_check
from vae_jax.data import arrays, datasets, pipeline
from vae_jax.runtime import devices as parallel
from vae_jax.runtime import distributed
from vae_jax.training import (
  build,
  contracts,
  flops,
  init_from,
  init_from_data,
  longer,
  memory,
  provenance,
  restore,
  weight_decay,
)
from vae_jax.training import experiment as experiment_lib
from vae_jax.training import workdir as workdir_lib
from vae_jax.training.experiment import Experiment
from vae_jax.training.loop import RUN_AHEAD, Loop
from vae_jax.training.progress import Stopwatch
from vae_jax.training.state import TrainState


@dataclasses.dataclass
class Costs:
  """Costs of a run."""

  compile_seconds: float = 0.0  # to trace and compile the train step
  flops_per_image: float = 0.0  # forward and backward; see `flops`
  memory_bytes: int = 0  # that each device holds in training; see `memory`
  held_bytes: int = 0  # state and data, which it also holds between two steps
  validation_bytes: int = 0  # that each device holds in a validation
  images: int = 0  # trained on after the first dispatch
  seconds: float = 0.0  # of these, without validation, pictures and saves
  waited: float = 0.0  # part of `seconds` spent waiting for data

  def add(self, stopwatch: Stopwatch) -> None:
    """Adds the time of the loop."""
    self.images += stopwatch.images
    self.seconds += stopwatch.seconds
    self.waited += stopwatch.waited


def prepare(config: ConfigDict, data: arrays.Data | None = None) -> Experiment:
  """Checks a config, opens its data set (or `data`, from Python) and builds its
  parts."""
  config_check.validate(config)
  parallel.check_batch(
    "train.batch_size", config.train.batch_size, config.train.accumulate
  )
  splits = open_splits(config, data)
  experiment = experiment_lib.build(resolve(config, splits), splits)
  check(experiment)
  return experiment


def open_splits(
  config: ConfigDict, data: arrays.Data | None = None
) -> datasets.Splits:
  """Opens the data set; process 0 first, which may have to prepare it."""
  return distributed.lead_first(
    lambda: datasets.open_splits(config.data, data), "opening the data set"
  )


def resolve(config: ConfigDict, splits: datasets.Splits) -> ConfigDict:
  """Returns the config with all settings that the data set decides.

  An objective's hyperparameter `dataset_size` becomes the number of training
  images, unless it is set.
  """
  config = config.copy_and_resolve_references()
  named = tuple(config.data.image_shape)
  if named and named != splits.image_shape:
    raise ConfigError(
      f"config.data.image_shape is {named}, but {splits.name} has images of "
      f"{splits.image_shape} after crop, resize and grayscale."
    )
  side = min(splits.image_shape[:2])
  if config.data.shift >= side:
    raise ConfigError(
      f"config.data.shift is {config.data.shift}; it must be below the image's "
      f"smaller side, {side} pixels."
    )
  config.data.name = splits.name
  config.data.image_shape = splits.image_shape
  config.data.stored_size = splits.stored_size
  config.data.range = splits.range
  config.data.digest = splits.digest
  config.data.num_labels = build.num_labels(config, splits)
  for name in ("train", "validation", "test"):
    config.data[f"{name}_split"] = splits.split_strings[name]
  for node in (config.optim.optimizer, config.optim.auxiliary.optimizer):
    weight_decay.resolve(node)
  args = config.objective.args
  if "dataset_size" in objectives.hyperparameters(config):
    args.dataset_size = args.get("dataset_size", 0) or len(splits.train)
  return config


def check(experiment: Experiment) -> None:
  """Checks all parts against their contracts; computes and compiles nothing."""
  train = experiment.splits.train
  init_from.parts(experiment.config)
  init_from_data.check(experiment.config, experiment.vae_eval, train)
  variables = contracts.check(experiment, train.label_shape)
  memory.check_sizes(experiment.config, variables["params"])


@contextlib.contextmanager
def claim(experiment: Experiment, workdir: str) -> Iterator[provenance.Record]:
  """Holds a workdir, and yields the record of this start of the run.

  Raises:
    ConfigError: the processes differ, the workdir cannot be had, or a new run
      cannot have the weights that it is to start from.
  """
  config, splits = experiment.config, experiment.splits
  refusal = functools.partial(longer.refusal, experiment)
  facts = distributed.config_facts(config)
  facts |= distributed.data_facts("the training images", splits.train)
  facts |= distributed.data_facts("the validation images", splits.validation)
  distributed.agree("the data", facts)
  with contextlib.ExitStack() as stack:

    def claim() -> None:
      if parallel.is_lead():
        stack.enter_context(workdir_lib.claim(workdir, config, refusal))
        restore.check_origin(experiment, workdir)

    # All processes end if the first one is refused.
    distributed.lead_first(claim, "claiming the workdir")
    yield stack.enter_context(provenance.keep(workdir, config))


def compile_step(
  config: ConfigDict,
  step: Callable[..., Any],
  arguments: tuple[Any, ...],
  costs: Costs,
) -> Callable[..., Any]:
  """Returns the mapped train step, compiled for arguments like these.

  `costs` receives the costs of compilation and of a step.

  Raises:
    ConfigError: the devices have too little memory.
  """
  begin = time.monotonic()
  dispatches = RUN_AHEAD + pipeline.AHEAD
  held = memory.required(*arguments[:2], dispatches=dispatches)
  # Counting traces the step once more, next to the compiler.
  with memory.explain_oom(config, held), futures.ThreadPoolExecutor(1) as pool:
    lowered = step.lower(*arguments)
    # Under a trace pmap has this process's devices alone.
    local = len(parallel.positions())
    shapes = jax.tree.map(
      lambda v: jax.ShapeDtypeStruct((local, *v.shape[1:]), v.dtype), arguments
    )
    jaxpr = pool.submit(lambda: jax.make_jaxpr(step)(*shapes).jaxpr)
    compiled = lowered.compile()
    costs.compile_seconds = time.monotonic() - begin
    operations = flops.count(jaxpr.result())
  costs.held_bytes = memory.required(*arguments[:2], dispatches=pipeline.AHEAD)
  costs.memory_bytes = memory.required(
    *arguments[:2], dispatches=dispatches, compiled=compiled
  )
  memory.check(config, costs.memory_bytes)
  local_batch = config.train.batch_size // parallel.device_count()
  costs.flops_per_image = operations / local_batch
  return compiled


def describe(
  experiment: Experiment,
  loop: Loop,
  workdir: str,
  state: TrainState,
  costs: Costs,
) -> None:
  """Logs the facts of a run once, before it starts."""
  config, splits = experiment.config, experiment.splits
  data = ", ".join(
    f"{k} {len(getattr(splits, k)):,} ({v})"
    for k, v in splits.split_strings.items()
  )
  images = loop.num_steps * loop.batch_size
  lines = [
    f"devices     {parallel.describe_devices()}",
    f"data        {splits.name}, {config.data.image_shape}: {data}",
    *(f"            {line}" for line in splits.lines),
    *parameter_table(state.params),
    f"memory      {memory.size(costs.memory_bytes)} in training, "
    f"{memory.size(costs.validation_bytes)} in validation, of "
    f"{memory.size(memory.limit())} on each device",
    f"objective   {config.objective.name} {config.objective.args.to_dict()}",
    *weight_decay.described(config, state.params),
    f"likelihood  {config.model.likelihood.name}, "
    f"binarization {config.data.binarization}",
    f"run         {loop.num_steps:,} steps of {loop.batch_size} images, "
    f"{images / len(splits.train):.1f} epochs, "
    f"{loop.steps_per_call} steps per dispatch",
    f"compute     {costs.flops_per_image / 1e6:.2f} MFLOP per image, "
    f"compiled in {costs.compile_seconds:.1f} s",
    f"output      {workdir}",
  ]
  logging.info("%s", "\n".join(lines))


def parameter_table(params: dict[str, Any]) -> list[str]:
  """Returns a line for each part of the model, and one for their sum."""
  counts = {
    name: sum(math.prod(np.shape(v)) for v in jax.tree.leaves(part))
    for name, part in params.items()
  }
  counts["all"] = sum(counts.values())
  lines = [f"  {k:<14}{v:>14,} parameters" for k, v in counts.items()]
  return ["model", *lines]
