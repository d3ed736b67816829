"""A flow of affine couplings (RealNVP), fitted to codes by maximum likelihood.

It starts as the normal with the mean and the covariance of the codes, and ends
where codes that it is not trained on become no likelier.

References:
  Dinh, Sohl-Dickstein and Bengio, arXiv 1605.08803.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32

from vae_jax import distributions
from vae_jax.config import ConfigError
from vae_jax.latents import gaussian_mixture
from vae_jax.models import flow_nets
from vae_jax.runtime import bars

_LAYERS = 8
_HIDDEN = (128, 128)
_BATCH = 256  # Codes.
_EPOCHS = 200  # At most.
_PATIENCE = 10  # Epochs without a better one that end the fit.
_HELD_OUT = 10  # One code in so many is not trained on.
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 1e-3
_CLIP = 10.0  # Norm of the gradient, nats per weight.
_AVERAGED = 3  # Epochs that averaged weights look back, about.
_NAME = "coupling_{}"


def fit(
  codes: Float32[np.ndarray, "n d"], *, seed: int, bar: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the arrays of `build`, and a report of the fit.

  Args:
    codes: n of them, at least 2.
    seed: of weights, held-out codes and order.
    bar: name of the progress bar; "" = no bar.

  Returns:
    The report has `epochs`, and `held_out_log_likelihood`, nats per held-out
    code at the start and after each epoch; the weights of the best are kept.

  Raises:
    ConfigError: d is 1.
  """
  dim = codes.shape[1]
  if dim < 2:
    raise ConfigError(
      f"config.model.latent_dim is {dim}; the density flow needs at least 2, "
      "because each half of the latents transforms the other."
    )
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(codes))
  held_out, rest = np.split(codes[order], [max(1, len(codes) // _HELD_OUT)])
  normal, _ = gaussian_mixture.fit(rest, seed=seed, components=1)
  frame = {"mean": normal["mean"][0], "scale_tril": normal["scale_tril"][0]}
  size = min(_BATCH, len(rest))
  rate = np.float32(1 / (_AVERAGED * (len(rest) // size)))
  start, step, log_prob = _functions(dim)
  state = start(jax.random.key(seed))
  best, scores = state[0], [_mean(log_prob, state[0], frame, held_out)]
  with bars.Bar(_EPOCHS, bar, "epochs", shown=bool(bar)) as progress:
    while len(scores) <= _EPOCHS:
      order = rng.permutation(len(rest))
      for begin in range(0, len(rest) - size + 1, size):
        batch = rest[order[begin : begin + size]]
        state = step(*state, frame, batch, rate)
      scores.append(_mean(log_prob, state[0], frame, held_out))
      if scores[-1] == max(scores):
        best = state[0]
      progress.update(1, f"held-out log-likelihood {max(scores):.3f}")
      if len(scores) - 1 - int(np.argmax(scores)) >= _PATIENCE:
        break
  report = {"epochs": len(scores) - 1, "held_out_log_likelihood": scores}
  return {**frame, **jax.tree.map(np.asarray, best)}, report


def build(arrays: dict[str, Any]) -> distributions.Affine:
  """Returns the density of arrays, as `fit` returns them."""
  arrays = jax.tree.map(jnp.asarray, arrays)
  dim, weights = arrays["mean"].shape[0], []
  while (name := _NAME.format(len(weights))) in arrays:
    weights.append({"params": arrays[name]})
  layers = flow_nets.couplings(dim, len(weights), _HIDDEN)
  networks = tuple(network.apply for network, _ in layers)
  flow = distributions.CouplingFlow(tuple(weights), dim, networks)
  return distributions.Affine(flow, arrays["mean"], arrays["scale_tril"])


@functools.lru_cache(maxsize=1)
def _functions(dim: int) -> tuple[Callable[..., Any], ...]:
  """Returns compiled functions: the first state (averaged weights, weights,
  optimizer), a step, and the log density of codes."""
  layers = flow_nets.couplings(dim, _LAYERS, _HIDDEN)
  optimizer = optax.chain(
    optax.clip_by_global_norm(_CLIP),
    optax.adamw(_LEARNING_RATE, weight_decay=_WEIGHT_DECAY),
  )

  def start(key: jax.Array) -> tuple[Any, Any, Any]:
    weights = {
      _NAME.format(i): network.init(
        jax.random.fold_in(key, i), jnp.zeros((1, kept))
      )["params"]
      for i, (network, kept) in enumerate(layers)
    }
    return weights, weights, optimizer.init(weights)

  def log_prob(weights: Any, frame: Any, codes: Float[Array, "b d"]) -> Any:
    return build({**frame, **weights}).log_prob(codes)

  def step(
    average: Any,
    weights: Any,
    moments: Any,
    frame: Any,
    codes: Float[Array, "b d"],
    rate: Any,
  ) -> tuple[Any, Any, Any]:
    loss = lambda w: -log_prob(w, frame, codes).mean()  # noqa: E731
    updates, moments = optimizer.update(
      jax.grad(loss)(weights), moments, weights
    )
    weights = optax.apply_updates(weights, updates)
    # Likelier held-out codes, and draws with truer moments, than of the last.
    average = optax.incremental_update(weights, average, rate)
    return average, weights, moments

  return tuple(map(jax.jit, (start, step, log_prob)))


def _mean(
  log_prob: Callable[..., Any],
  weights: Any,
  frame: Any,
  codes: Float32[np.ndarray, "n d"],
) -> float:
  """Returns the mean log density of codes, nats."""
  total = 0.0
  for begin in range(0, len(codes), _BATCH):
    part = codes[begin : begin + _BATCH]
    # Padded, so that one program serves any number of codes.
    rows = np.resize(part, (_BATCH, codes.shape[1]))
    values = np.asarray(log_prob(weights, frame, rows), np.float64)
    total += float(values[: len(part)].sum())
  return total / len(codes)
