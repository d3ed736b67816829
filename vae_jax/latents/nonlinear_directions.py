"""Nonlinear latent paths that add or remove an attribute.

A path is the gradient flow on the log-odds f_a(z) of attribute a, as an MLP
probe predicts it from the code:

  dz / ds = sum_a w_a gap_a grad f_a(z) / |grad f_a(z)|^2,    z(0) = the code,

where w_a are the weights of the attributes and gap_a is the mean of f_a over
codes with the attribute less the mean over codes without it. So a strength of 1
along one attribute raises its log-odds by the mean distance between images with
and without it, which is also the unit of linear directions.

f_a is the mean of several networks, trained on codes with the posterior's noise
so that they do not depend on differences that are invisible in an image.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Float32, Integer

from vae_jax.config import ConfigError
from vae_jax.runtime import storage

KIND = "curved"
_NETWORKS = 6
_HIDDEN = (256, 256)
_BATCH = 256
_EPOCHS = 15
_FEWEST_STEPS = 50
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.1
_MAX_STRENGTH = 100.0
_STEPS = 20  # Euler steps for each unit of strength.
# Gradients shorter than this share of the usual length are not divided by,
# because the path would jump.
_SHORT = 0.1


class Probe(nn.Module):
  """Predicts the log-odds of attributes from standardized codes."""

  outputs: int  # Number of attributes.

  @nn.compact
  def __call__(self, code: Float[Array, "*b d"]) -> Float[Array, "*b a"]:
    """Returns the log-odds of each attribute."""
    x = code
    for units in _HIDDEN:
      x = nn.swish(nn.Dense(units)(x))
    return nn.Dense(self.outputs)(x)


@dataclasses.dataclass(frozen=True, eq=False)
class NonlinearDirections:
  """Fitted probes.

  Attributes:
    names: of the attributes or classes.
    params: parameters of the networks, stacked.
    scale: mean and standard deviation of the codes.
    gap: mean log-odds with each attribute less that without it.
    floor: smallest squared length of a gradient that is divided by.
    step: of the checkpoint that encoded the codes.
  """

  names: tuple[str, ...]
  params: Any
  scale: Float32[np.ndarray, "2 d"]
  gap: Float32[np.ndarray, " a"]
  floor: Float32[np.ndarray, " a"]
  step: int

  def walk(
    self,
    codes: Float32[np.ndarray, "n d"],
    weights: Mapping[str, float | int],
    strengths: Float[np.ndarray, " s"],
  ) -> Float32[np.ndarray, "n s d"]:
    """Returns the codes at each strength along the path of each code.

    Args:
      codes: starts of the paths, returned unchanged at strength 0.
      weights: of the attributes; other attributes may change freely.
      strengths: lengths of the paths, of either sign.

    Raises:
      ConfigError: a strength times a weight is above 100, or not a number.
    """
    chosen = np.array([self.names.index(name) for name in weights], np.int32)
    speed = np.array(list(weights.values()), np.float32) * self.gap[chosen]
    reach = float(np.abs(list(weights.values())).max(initial=0))
    furthest = float(np.abs(strengths).max(initial=0)) * reach
    # The time is proportional to the strength.
    if not furthest <= _MAX_STRENGTH:
      raise ConfigError(
        f"The strength {furthest:g} leads too far along a curve; it must be at "
        f"most {_MAX_STRENGTH:g}."
      )
    # A number for each path, so that none depends on the others' strengths.
    steps = np.ceil(_STEPS * reach * np.abs(strengths) - 1e-6).astype(np.int32)
    n, s = len(codes), len(strengths)
    begin = np.repeat(codes, s, axis=0)
    length = np.tile(strengths / np.maximum(steps, 1), n).astype(np.float32)
    ends = _walk(
      self.params, self.scale, chosen, speed, self.floor[chosen], begin, length,
      np.tile(steps, n),
    )  # fmt: skip
    return np.asarray(ends).reshape(n, s, -1)


def _log_odds(
  params: Any, scale: Float[Array, "2 d"], code: Float[Array, " d"]
) -> Float[Array, " a"]:
  """Returns the mean log-odds over the networks."""
  outputs = params["params"][f"Dense_{len(_HIDDEN)}"]["bias"].shape[-1]
  standard = (code - scale[0]) / scale[1]
  run = lambda p: Probe(outputs).apply(p, standard)  # noqa: E731
  return jax.vmap(run)(params).mean(axis=0)


@jax.jit
def _walk(
  params: Any,
  scale: Float[Array, "2 d"],
  chosen: Integer[Array, " w"],
  speed: Float[Array, " w"],
  floor: Float[Array, " w"],
  begin: Float[Array, "n d"],
  length: Float[Array, " n"],
  steps: Integer[Array, " n"],
) -> Float[Array, "n d"]:
  """Returns the ends of the paths, after `steps` Euler steps of `length`."""
  scale = jnp.asarray(scale)

  def odds(code: jax.Array) -> jax.Array:
    return _log_odds(params, scale, code)[chosen]

  def velocity(code: jax.Array) -> jax.Array:
    gradients = jax.jacrev(odds)(code)
    lengths = jnp.maximum((gradients**2).sum(axis=-1), floor)
    return (speed / lengths) @ gradients

  def move(i: Any, codes: jax.Array) -> jax.Array:
    moved = codes + length[:, None] * jax.vmap(velocity)(codes)
    return jnp.where((i < steps)[:, None], moved, codes)

  return jax.lax.fori_loop(0, jnp.max(steps), move, jnp.asarray(begin))


def fit(
  codes: Float32[np.ndarray, "n d"],
  noise: Float32[np.ndarray, " d"],
  present: Integer[np.ndarray, "n a"],
  names: tuple[str, ...],
  *,
  step: int,
) -> NonlinearDirections:
  """Trains the probes.

  Args:
    codes: posterior means.
    noise: standard deviation of the posterior, by dimension.
    present: whether each code has each attribute, 0 or 1.
    names: of the attributes, stored in the result.
    step: of the checkpoint, stored in the result.
  """
  spread = codes.std(axis=0)
  # Constant dimensions are not scaled.
  spread = np.where(spread > 1e-6, spread, 1).astype(np.float32)
  scale = np.stack([codes.mean(axis=0), spread]).astype(np.float32)
  params = _train(
    jnp.asarray((codes - scale[0]) / scale[1]),
    jnp.asarray(noise / scale[1]),
    jnp.asarray(present, jnp.float32),
  )
  odds, lengths = _evaluate(params, jnp.asarray(scale), jnp.asarray(codes))
  count = present.sum(axis=0)
  with np.errstate(divide="ignore", invalid="ignore"):
    inside = (present * odds).sum(axis=0) / count
    outside = ((1 - present) * odds).sum(axis=0) / (len(present) - count)
  return NonlinearDirections(
    names=names,
    params=jax.tree.map(np.asarray, params),
    scale=scale,
    gap=(inside - outside).astype(np.float32),
    floor=(_SHORT**2 * lengths).astype(np.float32),
    step=step,
  )


def _train(
  codes: Float[Array, "n d"],
  noise: Float[Array, " d"],
  present: Float[Array, "n a"],
) -> Any:
  probe = Probe(present.shape[1])
  steps = max(_FEWEST_STEPS, _EPOCHS * len(codes) // _BATCH)
  rate = optax.cosine_decay_schedule(_LEARNING_RATE, steps)
  optimizer = optax.adamw(rate, weight_decay=_WEIGHT_DECAY)

  def loss(params: Any, key: jax.Array) -> jax.Array:
    drawn, around = jax.random.split(key)
    index = jax.random.randint(drawn, (_BATCH,), 0, len(codes))
    moved = jax.random.normal(around, (_BATCH, codes.shape[1])) * noise[None]
    odds = probe.apply(params, codes[index] + moved)
    return optax.sigmoid_binary_cross_entropy(odds, present[index]).mean()

  @jax.jit
  @jax.vmap
  def train(key: jax.Array) -> Any:
    params = probe.init(key, codes[0])

    def update(i: Any, state: Any) -> Any:
      params, slots = state
      gradient = jax.grad(loss)(params, jax.random.fold_in(key, i))
      change, slots = optimizer.update(gradient, slots, params)
      return optax.apply_updates(params, change), slots

    state = params, optimizer.init(params)
    return jax.lax.fori_loop(0, steps, update, state)[0]

  return train(jax.random.split(jax.random.key(0), _NETWORKS))


def _evaluate(
  params: Any, scale: Float[Array, "2 d"], codes: Float[Array, "n d"]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the log-odds of all codes, [n a], and the mean squared lengths of
  their gradients, [a]."""
  odds = functools.partial(_log_odds, params, scale)
  over = jax.jit(jax.lax.map, static_argnums=0, static_argnames="batch_size")
  values = over(odds, codes, batch_size=_BATCH)
  # A few hundred codes estimate the mean length of a gradient.
  few = codes[:: max(1, len(codes) // 500)]
  gradients = over(jax.jacrev(odds), few, batch_size=_BATCH)
  return np.asarray(values), np.asarray((gradients**2).sum(-1).mean(0))


def save(directions: NonlinearDirections, path: storage.Path) -> None:
  """Writes fitted probes to an `.npz` file, atomically."""
  flat = traverse_util.flatten_dict(directions.params, sep="/")
  storage.write_arrays(
    path,
    names=np.array(directions.names),
    scale=directions.scale,
    gap=directions.gap,
    floor=directions.floor,
    step=np.array(directions.step),
    **flat,
  )


def load(path: storage.Path) -> NonlinearDirections:
  """Reads a file of `save`, without pickle.

  Raises:
    ConfigError: the file is damaged or of another kind.
  """
  with storage.parsing(path, "--mode=attributes makes it again"):
    values = storage.read_arrays(path)
    flat = {k: v for k, v in values.items() if k.startswith("params/")}
    return NonlinearDirections(
      names=tuple(values["names"].tolist()),
      params=traverse_util.unflatten_dict(flat, sep="/"),
      scale=values["scale"],
      gap=values["gap"],
      floor=values["floor"],
      step=int(values["step"]),
    )
