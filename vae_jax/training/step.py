"""The train and evaluation steps, mapped over devices: one shared forward.

A dispatch runs up to `config.train.steps_per_call` optimiser steps on the
device. The number of steps is an argument, not a shape: one compiled program
serves every dispatch, and so the same step gives the same bits however the
run is cut into dispatches by logging, checkpoints or a restart.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from ml_collections import ConfigDict

from vae_jax import models, objectives
from vae_jax.data import binarize
from vae_jax.data.batch import Batch, Stream
from vae_jax.runtime import devices as parallel
from vae_jax.training import optim
from vae_jax.training.experiment import Experiment
from vae_jax.training.state import TrainState


def forward(
  objective: objectives.Objective,
  vae: models.Vae,
  variables: dict[str, Any],
  batch: Batch,
  *,
  dropout_key: jax.Array | None = None,
) -> tuple[dict[str, jax.Array], Any]:
  """Returns the objective's per-example terms [b] by name, and model state.

  Args:
    objective: a function of (vae, batch).
    vae: the unbound model, for training or for evaluation.
    variables: parameters and model state.
    batch: this device's examples.
    dropout_key: given in training only, where the model state is updated.
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
  named = {"loss": terms.loss, "distortion": terms.distortion}
  if terms.rate is not None:
    named["rate"] = terms.rate
    named["neg_elbo"] = terms.distortion + terms.rate
  return named | terms.extras, model_state


def _keys(
  seed: jax.Array, stream: Stream, step: jax.Array, positions: jax.Array
) -> jax.Array:
  root = jax.random.fold_in(jax.random.key(seed), stream)
  step_key = jax.random.fold_in(root, step)
  return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(positions)


def make_train_steps(
  experiment: Experiment,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array], jax.Array]]:
  """Returns `(state, data, control, seed) -> (state, metrics, stop)`, mapped.

  Args:
    experiment: of the run.

  Returns:
    A function of, per device: the state; `data` with `image` uint8
    [k a b h w c], `index` int32 [k a b] and perhaps `label` [k a b ...], for
    k steps, each computed in a parts of b images; `control` int32 [2], how
    many of the k steps to run and whether this process was told to stop; the
    seed. Its metrics [k] are means over the global batch, 0 for steps not
    run; `stop` is whether any process was told to, which all of them thus
    learn after the same step. The state is donated.
  """
  config, objective = experiment.config, experiment.objective
  vae, optimizer = experiment.vae_train, experiment.optimizer
  learning_rate = experiment.learning_rate

  def part_gradients(
    params: Any,
    model_state: Any,
    data: dict[str, jax.Array],
    part: jax.Array,
    step: jax.Array,
    seed: jax.Array,
  ) -> tuple[Any, Any, dict[str, jax.Array]]:
    (local,) = data["index"].shape
    devices, device = parallel.device_count(), lax.axis_index(parallel.AXIS)
    # Parts divide the global batch before devices do, so that a part holds
    # the same images however many devices share it.
    place = part * devices + device
    position = place * local + jnp.arange(local)
    key = _keys(seed, Stream.TRAIN, step, position)
    dropout = _keys(seed, Stream.DROPOUT, step, place[None])[0]
    batch = Batch(
      image=binarize.binarize(
        data["image"], data["index"], key, mode=config.data.binarization
      ),
      index=data["index"],
      mask=jnp.ones((local,), bool),
      key=key,
      label=data.get("label"),
      step=step,
    )

    def loss(params: Any) -> tuple[jax.Array, Any]:
      variables = {"params": params, **model_state}
      terms, updated = forward(
        objective, vae, variables, batch, dropout_key=dropout
      )
      means = {k: jnp.sum(v) / (local * devices) for k, v in terms.items()}
      return means["loss"], (means, updated)

    grads, (means, updated) = jax.grad(loss, has_aux=True)(params)
    return grads, {**model_state, **updated}, means

  def gradients(
    state: TrainState, data: dict[str, jax.Array], seed: jax.Array
  ) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Returns gradient, model state and means over the global batch."""

    def accumulate(carry: Any, xs: Any) -> tuple[Any, Any]:
      total, model_state = carry
      part, data = xs
      grads, model_state, means = part_gradients(
        state.params, model_state, data, part, state.step, seed
      )
      return (jax.tree.map(jnp.add, total, grads), model_state), means

    parts = data["index"].shape[0]
    if parts == 1:
      only = jax.tree.map(lambda v: v[0], data)
      grads, model_state, means = part_gradients(
        state.params, state.model_state, only, jnp.int32(0), state.step, seed
      )
    else:
      zeros = jax.tree.map(jnp.zeros_like, state.params)
      (grads, model_state), means = lax.scan(
        accumulate, (zeros, state.model_state), (jnp.arange(parts), data)
      )
      grads = jax.tree.map(lambda g: g / parts, grads)
      means = jax.tree.map(lambda m: jnp.mean(m, axis=0), means)
    grads = lax.psum(grads, parallel.AXIS)
    return grads, model_state, lax.psum(means, parallel.AXIS)

  def one_step(
    state: TrainState, data: dict[str, jax.Array], seed: jax.Array
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    grads, updated_state, means = gradients(state, data, seed)
    norm = optax.tree.norm(grads)
    # Norm and loss are already global: all devices take the same decision. A
    # comparison with nan is False, which skips.
    good = jnp.isfinite(norm) & jnp.isfinite(means["loss"])
    if config.optim.skip_norm:
      good &= norm <= config.optim.skip_norm

    def take() -> tuple[Any, ...]:
      updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params
      )
      params = optax.apply_updates(state.params, updates)
      ema = state.ema_params
      if ema is not None:
        ema = optim.update_ema(ema, params, config.optim.ema_decay)
      return params, updated_state, opt_state, ema

    def leave() -> tuple[Any, ...]:
      return state.params, state.model_state, state.opt_state, state.ema_params

    # A branch, since selecting element by element reads and writes the whole
    # state once more: 5% of a step of a small network on a CPU.
    params, model_state, opt_state, ema = lax.cond(good, take, leave)
    bad = 1 - good.astype(jnp.int32)
    metrics = {
      **means,
      "grad_norm": norm,
      "learning_rate": learning_rate(state.step - state.skipped),
      "skipped": bad,
    }
    new_state = TrainState(
      step=state.step + 1,
      params=params,
      model_state=model_state,
      opt_state=opt_state,
      ema_params=ema,
      skipped=state.skipped + bad,
      skipped_in_row=(state.skipped_in_row + 1) * bad,
    )
    return new_state, metrics

  def train_steps(
    state: TrainState,
    data: dict[str, jax.Array],
    control: jax.Array,
    seed: jax.Array,
  ) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    count, told = control

    def body(i: jax.Array, carry: Any) -> Any:
      state, history = carry
      now = jax.tree.map(
        lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), data
      )
      state, metrics = one_step(state, now, seed)
      history = jax.tree.map(lambda h, m: h.at[i].set(m), history, metrics)
      return state, history

    first = jax.tree.map(lambda v: v[0], data)
    _, shapes = jax.eval_shape(one_step, state, first, seed)
    steps = data["index"].shape[0]
    history = jax.tree.map(lambda s: jnp.zeros((steps,), s.dtype), shapes)
    state, history = lax.fori_loop(0, count, body, (state, history))
    return state, history, lax.psum(told, parallel.AXIS) > 0

  return parallel.pmap(train_steps, donate_argnums=(0,))


def eval_batch(
  config: ConfigDict,
  data: dict[str, jax.Array],
  seed: jax.Array,
  step: jax.Array | int = 0,
) -> Batch:
  """Returns one device's part of held-out data as the model is given it.

  Keys, and with them binarisation and all sampling, depend on the seed and
  the example's index alone, so that no number of devices changes a result, and
  no batch size but that of a loss with a statistic of the batch.

  Args:
    config: the resolved config.
    data: `image` [b h w c], `index` [b], `mask` [b] and perhaps `label`.
    seed: of the evaluation.
    step: optimizer steps so far, for schedules inside the objective.
  """
  index = data["index"]
  key = _keys(seed, Stream.EVALUATE, jnp.int32(0), index)
  image = binarize.binarize(
    data["image"], index, key, mode=config.data.binarization
  )
  label = data.get("label")
  return Batch(image, index, data["mask"], key, label, jnp.int32(step))


def make_eval_step(
  experiment: Experiment,
) -> Callable[..., dict[str, jax.Array]]:
  """Returns `(variables, data, step, seed) -> sums`, mapped.

  `data` holds per device what `eval_batch` takes. The sums run over the
  global batch where the mask is True, with their number under "count".
  """
  config, objective = experiment.config, experiment.objective
  vae = experiment.vae_eval

  def eval_step(
    variables: Any,
    data: dict[str, jax.Array],
    step: jax.Array,
    seed: jax.Array,
  ) -> dict[str, jax.Array]:
    batch = eval_batch(config, data, seed, step)
    terms, _ = forward(objective, vae, variables, batch)
    # where, not a product: padding may be inf or nan.
    sums = {
      k: jnp.sum(jnp.where(batch.mask, v, 0.0), dtype=jnp.float32)
      for k, v in terms.items()
    }
    count = jnp.sum(batch.mask, dtype=jnp.float32)
    return lax.psum(sums | {"count": count}, parallel.AXIS)

  return parallel.pmap(eval_step)
