"""The contracts of a model's parts and of a loss, checked by tracing.

Everything is traced as a run uses it, in training, in evaluation and in drawing
samples; nothing is computed or compiled. A part that breaks its contract is
named in one sentence, with the line of a person's own file. models/README.md
has the contracts.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax import models, objectives
from vae_jax.config import ConfigError, own_code
from vae_jax.data.batch import Batch
from vae_jax.runtime import devices
from vae_jax.training import build, part_checks, parts
from vae_jax.training import step as step_lib
from vae_jax.training.experiment import Experiment

_IMAGES = 3  # In a traced batch.


def check(
  experiment: Experiment, label_shape: tuple[int, ...] | None = None
) -> models.Variables:
  """Traces all that a training run does with its parts.

  Args:
    experiment: of the run.
    label_shape: of one label of the data set; None = no labels.

  Returns:
    The shapes of the variables.

  Raises:
    ConfigError: a part does not fulfill its contract, or refuses a setting.
  """
  known = parts.of(experiment)
  arrays = _arrays(experiment.image_shape, label_shape)
  variables = check_model(experiment)
  part_checks.variables(known, variables)

  def run(vae: models.Vae, doing: str) -> models.Variables:
    def objective(vae: models.Vae, batch: Batch) -> objectives.Terms:
      with known["objective"].used(doing):
        terms = experiment.objective(vae, batch)
      part_checks.terms(known["objective"], terms, _IMAGES)
      return terms

    def forward(
      variables: models.Variables, arrays: dict[str, jax.Array]
    ) -> models.Variables:
      key = jax.random.key(0) if vae is experiment.vae_train else None
      _, state = step_lib.forward(
        objective, vae, variables, Batch(**arrays), dropout_key=key
      )
      return state

    # Under the axis name, for objectives with statistics of the global batch.
    mapped = jax.vmap(
      forward, in_axes=None, axis_name=devices.AXIS, axis_size=1
    )
    with _watched(experiment, known, doing):
      return jax.eval_shape(mapped, variables, arrays)

  state = run(experiment.vae_train, "in training")
  # Without the axis of devices.
  state = jax.tree.map(
    lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), state
  )
  part_checks.state(known, variables, state)
  run(experiment.vae_eval, "in evaluation")
  return variables


def check_model(experiment: Experiment) -> models.Variables:
  """Traces the first weights, the codes of images, and samples.

  Returns:
    The shapes of the variables.

  Raises:
    ConfigError: as `check`.
  """
  known, vae = parts.of(experiment), experiment.vae_eval
  shape, config = experiment.image_shape, experiment.config
  with _watched(experiment, known, "while it is initialized"):
    variables = jax.eval_shape(lambda: build.init_variables(config, shape, vae))

  def use(vae: models.Vae, batch: Batch, temperature: jax.Array) -> Any:
    codes = vae.prior().sample(batch.key, temperature=temperature)
    return vae.encode(batch.image).mean, vae.decode(codes).mean

  def run(variables: Any, arrays: Any, temperature: jax.Array) -> Any:
    batch = Batch(**arrays)
    inputs = models.side_inputs(label=batch.label)
    return nn.apply(use, vae)({**variables, **inputs}, batch, temperature)

  labels = {"none": None, "label": (), "attributes": (vae.num_labels,)}
  arrays = _arrays(shape, labels[config.model.condition])
  with _watched(experiment, known, "in evaluation"):
    jax.eval_shape(run, variables, arrays, jnp.float32(1))
  return variables


def _arrays(
  shape: tuple[int, ...], label_shape: tuple[int, ...] | None
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of a batch's arrays."""

  def make() -> dict[str, jax.Array]:
    arrays = {
      "image": jnp.zeros((_IMAGES, *shape), jnp.uint8),
      "index": jnp.zeros((_IMAGES,), jnp.int32),
      "mask": jnp.ones((_IMAGES,), bool),
      "key": jax.random.split(jax.random.key(0), _IMAGES),
      "step": jnp.int32(0),
    }
    if label_shape is not None:
      # Class ids are int32, bits of attributes uint8.
      dtype = jnp.uint8 if label_shape else jnp.int32
      arrays["label"] = jnp.zeros((_IMAGES, *label_shape), dtype)
    return arrays

  return jax.eval_shape(make)


@contextlib.contextmanager
def _watched(
  experiment: Experiment, known: dict[str, parts.Part], doing: str
) -> Iterator[None]:
  """Checks each call of a part in the block, and names a part that fails."""
  checks = part_checks.Checks(experiment, known, doing)

  def watch(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    module = context.module
    part = known.get(module.name)
    if part is None or not isinstance(module.parent, models.Vae):
      return call(*args, **kwargs)
    with part.used(doing):
      result = call(*args, **kwargs)
    if context.method_name == "__call__":
      getattr(checks, module.name)(result, *args)
    return result

  with nn.intercept_methods(watch):
    yield


@contextlib.contextmanager
def gradient(experiment: Experiment) -> Iterator[None]:
  """Names a person's own parts if a step has no gradient."""
  try:
    yield
  except ConfigError:
    raise
  except (TypeError, ValueError, NotImplementedError) as error:
    own = [str(p) for p in parts.of(experiment).values() if p.is_own]
    if not own:
      raise
    place = own_code.line_of(error)
    raise ConfigError(
      f"A training step has no gradient{f' at {place}' if place else ''}: "
      f"{own_code.gist(error)}; {'; '.join(own)}."
    ) from error
