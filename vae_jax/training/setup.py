"""From a config to a run: what the data decides, compiling, and the report."""

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vae_jax import objectives
from vae_jax.config import ConfigError
from vae_jax.data import datasets, pipeline
from vae_jax.data.batch import Batch
from vae_jax.runtime import devices as parallel
from vae_jax.runtime import distributed
from vae_jax.training import build, collectives, flops, init_from_data, memory
from vae_jax.training import experiment as experiment_lib
from vae_jax.training import step as train_step
from vae_jax.training.experiment import Experiment
from vae_jax.training.memory import Memory
from vae_jax.training.state import TrainState

# Dispatches that may wait for the device. Without a bound the host runs ahead
# until simulated devices starve one another and deadlock.
RUN_AHEAD = 2
# Images of one dispatch, at most; it changes no number.
_DISPATCH_BYTES = 1 << 28


@dataclasses.dataclass
class Costs:
  """What a run cost.

  Attributes:
    compile_seconds: wall time to trace and compile the train step.
    flops_per_image: of one training step, forward and backward; see `flops`.
    memory: of a device; see `memory`.
    exchanged: bytes that a device exchanges in a step, by kind; see
      `collectives`.
    images: training images after the first dispatch.
    seconds: wall time they took, validation, pictures and saves left out.
    waited: the part of it spent waiting for data.
  """

  compile_seconds: float = 0.0
  flops_per_image: float = 0.0
  memory: Memory | None = None
  exchanged: dict[str, int] = dataclasses.field(default_factory=dict)
  images: int = 0
  seconds: float = 0.0
  waited: float = 0.0


def resolve(config: ConfigDict, splits: datasets.Splits) -> ConfigDict:
  """Returns the config with all that the data set decides written out.

  An objective's hyperparameter `dataset_size` becomes the number of training
  images, unless it is set.

  Raises:
    ConfigError: the images are not of the size that the config names, or
      there is no such objective.
  """
  config = config.copy_and_resolve_references()
  named = tuple(config.data.image_shape)
  if named and named != splits.image_shape:
    raise ConfigError(
      f"config.data.image_shape is {named}, but {splits.name} has images of "
      f"{splits.image_shape} after crop, resize and grayscale."
    )
  config.data.name = splits.name
  config.data.image_shape = splits.image_shape
  config.data.num_labels = build.num_labels(config, splits)
  config.data.train_split = splits.split_strings["train"]
  config.data.validation_split = splits.split_strings["validation"]
  config.data.test_split = splits.split_strings["test"]
  args = config.objective.args
  if "dataset_size" in objectives.hyperparameters(config):
    args.dataset_size = args.get("dataset_size", 0) or len(splits.train)
  return config


def prepare(config: ConfigDict) -> Experiment:
  """Opens the data set, resolves the config, builds its parts and checks them.

  Raises:
    ConfigError: as the data set, the model or the objective words it.
  """
  splits = open_splits(config)
  config = resolve(config, splits)
  experiment = experiment_lib.build(config, splits)
  check(experiment)
  return experiment


def open_splits(config: ConfigDict) -> datasets.Splits:
  """Opens the data set; process 0 first, which may have to prepare it."""
  return distributed.lead_first(
    lambda: datasets.open_splits(config.data), "opening the data set"
  )


def check(experiment: Experiment) -> None:
  """Traces model, objective and optimiser without computing anything, so that
  a setting that they refuse stops the run before compilation.

  Raises:
    ConfigError: as the model or the objective words it.
  """
  config, shape = experiment.config, experiment.image_shape
  objective, vae = experiment.objective, experiment.vae_eval
  train = experiment.splits.train
  label_shape = train.label_shape
  init_from_data.check(config, vae, train)

  def run(index: jax.Array) -> dict[str, jax.Array]:
    variables = build.init_variables(config, shape, vae)
    label = None
    if label_shape is not None:
      # Class ids are int32, bits of attributes uint8.
      dtype = jnp.uint8 if label_shape else jnp.int32
      label = jnp.zeros((2, *label_shape), dtype)
    batch = Batch(
      image=jnp.zeros((2, *shape), jnp.uint8),
      index=index,
      mask=jnp.ones((2,), bool),
      key=jax.random.split(jax.random.key(0), 2),
      label=label,
    )
    return train_step.forward(objective, vae, variables, batch)[0]

  # Under the axis name, for objectives with statistics of the global batch.
  mapped = jax.vmap(run, axis_name=parallel.AXIS)
  terms = jax.eval_shape(mapped, jnp.zeros((1, 2), jnp.int32))
  for name, value in terms.items():
    if value.shape != (1, 2):
      raise ConfigError(
        f"config.objective.name is {config.objective.name!r}, whose {name} "
        f"has shape {value.shape[1:]} for a batch of 2; it must be one number "
        "per example."
      )


def steps_per_call(config: ConfigDict) -> int:
  """Returns the steps of a dispatch: the config's, or as many as fit.

  Several dispatches are held at once, on the host and on the device.
  """
  step_bytes = config.train.batch_size * math.prod(config.data.image_shape)
  fitting = max(1, _DISPATCH_BYTES // step_bytes)
  return min(config.train.steps_per_call, fitting)


def compile_step(
  config: ConfigDict, step: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Callable[..., Any], Costs]:
  """Compiles the mapped train step; returns it and what it costs.

  Args:
    config: the resolved config.
    step: of `train_step.make_train_steps`.
    arguments: that it will be called with, state and data first.

  Raises:
    ConfigError: the devices have too little memory.
  """
  begin = time.monotonic()
  held = memory.of_state(*arguments[:2], dispatches=RUN_AHEAD + pipeline.AHEAD)
  # Counting traces the step once more, which need not wait for the compiler.
  with (
    memory.refusals(config, held),
    futures.ThreadPoolExecutor(1) as pool,
  ):
    lowered = step.lower(*arguments)
    # Under a trace pmap sees this process's devices alone.
    local = len(parallel.positions())
    shapes = jax.tree.map(
      lambda v: jax.ShapeDtypeStruct((local, *v.shape[1:]), v.dtype), arguments
    )
    jaxpr = pool.submit(lambda: jax.make_jaxpr(step)(*shapes).jaxpr)
    compiled = lowered.compile()
    seconds = time.monotonic() - begin
    operations = flops.count(jaxpr.result())
  held = memory.with_activations(held, compiled)
  memory.check(config, held)
  devices = parallel.device_count()
  exchanged = {}
  if devices > 1:
    exchanged = collectives.bytes_per_step(compiled.as_text() or "")
  return compiled, Costs(
    compile_seconds=seconds,
    flops_per_image=operations / (config.train.batch_size // devices),
    memory=held,
    exchanged=exchanged,
  )


def describe(
  experiment: Experiment,
  workdir: str,
  state: TrainState,
  costs: Costs,
) -> None:
  """Logs once what a researcher wants to see of a run."""
  config, splits = experiment.config, experiment.splits
  num_steps = experiment.num_steps
  sizes = {k: len(getattr(splits, k)) for k in splits.split_strings}
  data = ", ".join(
    f"{k} {sizes[k]:,} ({v})" for k, v in splits.split_strings.items()
  )
  lines = [
    f"devices     {parallel.describe_devices()}",
    f"data        {splits.name}, {config.data.image_shape}: {data}",
    *parameter_table(state.params),
    *memory.table(costs.memory, _cached_bytes(config, splits)),
    f"objective   {config.objective.name} {config.objective.args.to_dict()}",
    f"likelihood  {config.model.likelihood.name}, "
    f"binarization {config.data.binarization}",
    f"run         {num_steps:,} steps of {config.train.batch_size} images, "
    f"{num_steps * config.train.batch_size / sizes['train']:.1f} epochs, "
    f"{steps_per_call(config)} steps per dispatch",
    f"compute     {costs.flops_per_image / 1e6:.2f} MFLOP per image, "
    f"compiled in {costs.compile_seconds:.1f} s",
    f"exchange    {collectives.describe(costs.exchanged)}",
    f"output      {workdir}",
  ]
  logging.info("%s", "\n".join(lines))


def _cached_bytes(config: ConfigDict, splits: datasets.Splits) -> int:
  """Returns the bytes of the images that lie decoded on this machine."""
  if config.data.cache != "host":
    return 0
  images = len(splits.train) + len(splits.validation)
  return images * math.prod(config.data.image_shape)


def parameter_table(params: Any) -> list[str]:
  """Returns a line for each part of the model, and one for all of it."""
  lines = []
  total = 0
  for name, part in params.items():
    count = sum(math.prod(np.shape(v)) for v in jax.tree.leaves(part))
    total += count
    lines.append(f"  {name:<14}{count:>14,} parameters")
  lines.append(f"  {'all':<14}{total:>14,} parameters")
  return ["model", *lines]
