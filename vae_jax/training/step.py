"""The train and evaluation steps of one device, and their mapped versions.

A dispatch runs up to `config.train.steps_per_call` optimizer steps on the
device. The number of steps is an argument, not a shape: one compiled program
serves every dispatch, so that a step gives the same bits however logging,
checkpoints or a restart cut the run into dispatches.

All functions but `make_*` run inside the mapped function, on the part of a
batch that one device holds.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Int32

from vae_jax import models, objectives
from vae_jax.data.batch import Batch
from vae_jax.models import Params, Variables
from vae_jax.runtime import devices as parallel
from vae_jax.training import batch as batch_lib
from vae_jax.training import optim
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState

Arrays = dict[str, jax.Array]  # by name


def make_train_steps(
  experiment: Experiment,
) -> Callable[..., tuple[TrainState, Arrays, jax.Array]]:
  """Returns `train_steps` of an experiment, mapped; the state is donated."""
  return parallel.pmap(
    functools.partial(train_steps, experiment), donate_argnums=(0,)
  )


def make_eval_step(experiment: Experiment) -> Callable[..., Arrays]:
  """Returns `eval_step` of an experiment, mapped."""
  return parallel.pmap(functools.partial(eval_step, experiment))


def train_steps(
  experiment: Experiment,
  state: TrainState,
  data: Arrays,
  control: Int32[Array, "2"],
  seed: jax.Array,
) -> tuple[TrainState, Arrays, jax.Array]:
  """Runs the steps of one dispatch.

  Args:
    experiment: of the run.
    state: before the first step.
    data: `image` uint8 [k a b h w c], `index` int32 [k a b] and perhaps
      `label` [k a b ...]: k steps, a micro-batches, b images.
    control: how many of the k steps to run, and whether this process has
      received a stop signal.
    seed: of the run.

  Returns:
    The state after the steps; metrics [k], which are means over the global
    batch and 0 for steps that did not run; whether any process has received a
    stop signal, so that all processes stop after the same step.
  """
  count, stop = control

  def body(i: jax.Array, carry: Any) -> Any:
    state, history = carry
    step_data = jax.tree.map(
      lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), data
    )
    state, metrics = train_step(experiment, state, step_data, seed)
    history = jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)
    return state, history

  first = jax.tree.map(lambda v: v[0], data)
  one_step = functools.partial(train_step, experiment)
  _, shapes = jax.eval_shape(one_step, state, first, seed)
  steps = data["index"].shape[0]
  history = jax.tree.map(lambda s: jnp.zeros((steps,), s.dtype), shapes)
  state, history = lax.fori_loop(0, count, body, (state, history))
  return state, history, lax.psum(stop, parallel.AXIS) > 0


def train_step(
  experiment: Experiment, state: TrainState, data: Arrays, seed: jax.Array
) -> tuple[TrainState, Arrays]:
  """Takes one optimizer step, or skips it if gradient or loss is not finite.

  The data of the step is [a b ...], see `train_steps`; returns the state after
  the step, and scalar metrics.
  """
  grads, model_state, means = gradients(experiment, state, data, seed)
  norm = optax.tree.norm(grads)
  # Norm and loss are already global: all devices take the same decision. A
  # comparison with nan is False, which skips.
  good = jnp.isfinite(norm) & jnp.isfinite(means["loss"])
  if experiment.config.optim.skip_norm:
    good &= norm <= experiment.config.optim.skip_norm
  # A branch, because selecting element by element reads and writes the state
  # once more: 5% of a step of a small network on a CPU.
  state_after = lax.cond(
    good, lambda: update(experiment, state, grads, model_state), lambda: state
  )
  skipped = 1 - good.astype(jnp.int32)
  metrics = {
    **means,
    "grad_norm": norm,
    "learning_rate": experiment.learning_rate(state.step - state.skipped),
    "skipped": skipped,
  }
  return state_after.replace(
    step=state.step + 1,
    skipped=state.skipped + skipped,
    skipped_in_row=(state.skipped_in_row + 1) * skipped,
  ), metrics


def update(
  experiment: Experiment,
  state: TrainState,
  grads: Params,
  model_state: Variables,
) -> TrainState:
  """Returns the state with updated weights; its counters are unchanged."""
  updates, opt_state = experiment.optimizer.update(
    grads, state.opt_state, state.params
  )
  params = optax.apply_updates(state.params, updates)
  ema = state.ema_params
  if ema is not None:
    ema = optim.update_ema(ema, params, experiment.config.optim.ema_decay)
  return state.replace(
    params=params, model_state=model_state, opt_state=opt_state, ema_params=ema
  )


def gradients(
  experiment: Experiment, state: TrainState, data: Arrays, seed: jax.Array
) -> tuple[Params, Variables, Arrays]:
  """Returns gradient, model state and mean terms over the global batch."""

  def micro_batch(
    model_state: Variables, place: jax.Array, data: Arrays
  ) -> tuple[Params, Variables, Arrays]:
    batch, dropout_key = batch_lib.train_batch(
      experiment.config, data, place, step=state.step, seed=seed
    )
    return micro_batch_gradients(
      experiment, state.params, model_state, batch, dropout_key
    )

  def accumulate(carry: Any, xs: Any) -> tuple[Any, Arrays]:
    total, model_state = carry
    grads, model_state, means = micro_batch(model_state, *xs)
    return (jax.tree.map(jnp.add, total, grads), model_state), means

  count = data["index"].shape[0]
  if count == 1:
    only = jax.tree.map(lambda v: v[0], data)
    grads, model_state, means = micro_batch(
      state.model_state, jnp.int32(0), only
    )
  else:
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (grads, model_state), means = lax.scan(
      accumulate, (zeros, state.model_state), (jnp.arange(count), data)
    )
    grads = jax.tree.map(lambda g: g / count, grads)
    means = jax.tree.map(lambda m: jnp.mean(m, axis=0), means)
  grads = lax.psum(grads, parallel.AXIS)
  return grads, model_state, lax.psum(means, parallel.AXIS)


def micro_batch_gradients(
  experiment: Experiment,
  params: Params,
  model_state: Variables,
  batch: Batch,
  dropout_key: jax.Array,
) -> tuple[Params, Variables, Arrays]:
  """Returns this device's part of a micro-batch's gradient, model state and
  mean terms: their sums over devices are those of the micro-batch."""
  images = len(batch.index) * parallel.device_count()

  def loss(params: Params) -> tuple[jax.Array, Any]:
    terms, updated = forward(
      experiment.objective,
      experiment.vae_train,
      {"params": params, **model_state},
      batch,
      dropout_key=dropout_key,
    )
    means = {k: jnp.sum(v) / images for k, v in terms.items()}
    return means["loss"], (means, updated)

  grads, (means, updated) = jax.grad(loss, has_aux=True)(params)
  return grads, {**model_state, **updated}, means


def forward(
  objective: objectives.Objective,
  vae: models.Vae,
  variables: Variables,
  batch: Batch,
  *,
  dropout_key: jax.Array | None = None,
) -> tuple[Arrays, Variables]:
  """Returns the objective's per-example terms [b] by name, and model state.

  Training, which updates the model state, has a `dropout_key`; None =
  evaluation.
  """
  training = dropout_key is not None
  mutable = ["batch_stats"] if training else []
  rngs = {"dropout": dropout_key} if training else {}

  def run(vae: models.Vae, batch: Batch) -> objectives.Terms:
    return objective(vae, batch)

  side_inputs = models.side_inputs(label=batch.label, key=batch.key)
  terms, model_state = nn.apply(run, vae, mutable=mutable)(
    {**variables, **side_inputs}, batch, rngs=rngs
  )
  return terms.named(), model_state


def eval_step(
  experiment: Experiment,
  variables: Variables,
  data: Arrays,
  step: jax.Array,
  seed: jax.Array,
) -> Arrays:
  """Returns {term: sum} over the global batch where its mask is True, and the
  number of examples as "count"; see `batch.eval_batch`."""
  batch = batch_lib.eval_batch(experiment.config, data, seed, step)
  terms, _ = forward(
    experiment.objective, experiment.vae_eval, variables, batch
  )
  # where, not a product: padding may be inf or nan.
  sums = {
    k: jnp.sum(jnp.where(batch.mask, v, 0.0), dtype=jnp.float32)
    for k, v in terms.items()
  }
  count = jnp.sum(batch.mask, dtype=jnp.float32)
  return lax.psum(sums | {"count": count}, parallel.AXIS)
