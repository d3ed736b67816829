"""Whether a loss has a statistic of the batch, such as a total correlation.

It is one of the global batch, so that the devices exchange numbers for it: its
trace holds a collective.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from vae_jax.data import datasets, pipeline
from vae_jax.models import Variables
from vae_jax.runtime import devices
from vae_jax.training import batch as batch_lib
from vae_jax.training import step as step_lib
from vae_jax.training.experiment import Experiment

# The beginnings of their names, which differ between releases of JAX.
_COLLECTIVES = (
  *("all_gather", "all_to_all", "pmax", "pmin", "ppermute", "psum"),
  *("ragged_all_to_all", "reduce_scatter"),
)


def has(
  experiment: Experiment, variables: Variables, source: datasets.Source
) -> bool:
  """Returns whether an example's loss depends on the others in evaluation.

  Nothing is compiled. `variables` are those of one device, or their shapes.
  """

  def terms(variables: Variables, data: Any) -> Any:
    batch = batch_lib.eval_batch(experiment.config, data, jnp.uint32(0))
    return step_lib.forward(
      experiment.objective, experiment.vae_eval, variables, batch
    )[0]

  # Under a trace pmap has this process's devices alone.
  lead = (len(devices.positions()),)
  replicated = jax.tree.map(
    lambda v: jax.ShapeDtypeStruct(lead + v.shape, v.dtype), variables
  )
  data = pipeline.eval_data(source, 0, devices.device_count())
  traced = jax.make_jaxpr(devices.pmap(terms))(replicated, data)
  return _has_collective(traced.jaxpr)


def _has_collective(jaxpr: core.Jaxpr) -> bool:
  return any(
    equation.primitive.name.startswith(_COLLECTIVES)
    or any(
      _has_collective(getattr(value, "jaxpr", value))
      for value in jax.tree.leaves(equation.params)
      if isinstance(value, core.ClosedJaxpr | core.Jaxpr)
    )
    for equation in jaxpr.eqns
  )
