"""The state of a training run, and the weights to evaluate."""

from typing import no_type_check

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int32
from ml_collections import ConfigDict

from vae_jax.models import Params, Variables
from vae_jax.training import build, optim
from vae_jax.training.experiment import Experiment


# Not checked at run time, because Orbax and tree.map construct states of other
# leaves.
@no_type_check
@struct.dataclass
class TrainState:
  """Everything that a run carries from step to step.

  The types are those inside the train step. Elsewhere the leaves are arrays
  on the host, have a leading axis of devices, or are shapes.
  """

  # Optimizer steps so far, skipped ones included; it alone decides which
  # examples and which random numbers come next.
  step: Int32[Array, ""]
  params: Params
  model_state: Variables  # that a forward pass updates (BatchNorm)
  # A skipped step leaves it, and with it the learning rate, unchanged.
  opt_state: optax.OptState
  ema_params: Params | None  # before `optim.debias_ema`; None if off
  skipped: Int32[Array, ""]  # steps so far
  skipped_in_row: Int32[Array, ""]
  # That of averaged weights, see `running_statistics`; None where weights are
  # not averaged, or nothing has running statistics. The train step has no use
  # for it, so that only copies on the host hold it.
  ema_model_state: Variables | None = None

  def __repr__(self) -> str:
    # A notebook shows what the last line of a cell returns.
    count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    return f"TrainState(step={self.step}, {count:,} parameters)"


def init_state(experiment: Experiment) -> TrainState:
  """Returns the state before the first step, a function of config.seed."""
  variables = build.init_variables(
    experiment.config, experiment.image_shape, experiment.vae_eval
  )
  return state_of(experiment, variables)


def state_of(experiment: Experiment, variables: Variables) -> TrainState:
  """Returns the state before the first step, with these variables."""
  model_state = dict(variables)
  params = model_state.pop("params")
  averaged = experiment.config.optim.ema_decay > 0
  running = averaged and bool(model_state.get("batch_stats"))
  zero = jnp.zeros((), jnp.int32)
  return TrainState(
    step=zero,
    params=params,
    model_state=model_state,
    opt_state=experiment.optimizer.init(params),
    ema_params=jax.tree.map(jnp.zeros_like, params) if averaged else None,
    skipped=zero,
    skipped_in_row=zero,
    ema_model_state=model_state if running else None,
  )


def has_averages(state: TrainState) -> bool:
  """Returns whether averaged weights are evaluated, of a host copy of the
  state: the config asks for them, and there was a step."""
  return state.ema_params is not None and int(state.step) > int(state.skipped)


def eval_params(config: ConfigDict, state: TrainState) -> Params:
  """Returns the weights to evaluate of a host copy of the state: averaged ones
  where the config asks for them."""
  if not has_averages(state):
    return state.params
  count = int(state.step) - int(state.skipped)
  return optim.debias_ema(state.ema_params, config.optim.ema_decay, count)


def eval_variables(config: ConfigDict, state: TrainState) -> Variables:
  """Returns the variables to evaluate: weights as `eval_params`, and the model
  state that belongs to them."""
  own = has_averages(state) and state.ema_model_state is not None
  model_state = state.ema_model_state if own else state.model_state
  return {"params": eval_params(config, state), **model_state}
