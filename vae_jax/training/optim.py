"""Learning-rate schedules, the optax chain, and averaged weights."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from vae_jax import objectives
from vae_jax.config import ConfigError, reason, registry
from vae_jax.training import muon, weight_decay

T = TypeVar("T")
_TYPES = ("bfloat16", "float16", "float32")  # Of an optimizer's state.
Schedule = Callable[[jax.Array | int], Float[Array, ""]]
# A factor on the learning rate after the warm-up, as a function of the fraction
# of the run that has passed, so that a longer run stretches it.
Factor = Callable[[jax.Array], jax.Array]


def _constant() -> Factor:
  return lambda fraction: jnp.ones_like(fraction)


def _require(good: bool, text: str) -> None:
  if not good:
    raise ConfigError(f"config.optim.schedule.args.{text}.")


def _cosine(*, final: float = 0.0) -> Factor:
  _require(final >= 0, f"final is {final}; it must be 0 or more")
  return lambda f: final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * f))


def _step(*, at: tuple[float, ...] = (0.5, 0.75), decay: float = 0.1) -> Factor:
  _require(decay > 0, f"decay is {decay}; it must be above 0")
  _require(
    all(isinstance(f, int | float) and 0 < f < 1 for f in at),
    f"at is {at}; each must be a fraction of the run, between 0 and 1",
  )

  return lambda f: decay ** sum((f >= a).astype(jnp.float32) for a in at)


def _stages(
  *, count: int = 8, growth: float = 3.0, final: float = 0.1
) -> Factor:
  _require(count >= 1, f"count is {count}; it must be at least 1")
  _require(growth > 0, f"growth is {growth}; it must be above 0")
  _require(final > 0, f"final is {final}; it must be above 0")
  lengths = [growth**i for i in range(count)]
  ends = [sum(lengths[: i + 1]) / sum(lengths) for i in range(count - 1)]

  def factor(fraction: jax.Array) -> jax.Array:
    passed = jnp.zeros_like(fraction)
    for end in ends:
      passed += (fraction >= end).astype(jnp.float32)
    return final ** (passed / max(count - 1, 1))

  return factor


_FACTORS = {
  "constant": _constant,
  "cosine": _cosine,
  "stages": _stages,
  "step": _step,
}


def learning_rate(
  config: ConfigDict, num_steps: int, *, highest: float | None = None
) -> Schedule:
  """Returns the learning rate as a function of the optimizer's step.

  The rate increases linearly from 0 over `optim.warmup_steps`, then it is
    constant  constant
    cosine    decreased to `final` times the highest rate at the last step
    step      multiplied by `decay` at each fraction of the run in `at`
    stages    constant in each of `count` stages, each `growth` times as long as
              the one before, with rates in equal ratios down to `final` times
              the highest (Burda et al., arXiv 1509.00519, section 5)

  The `highest` rate is `optim.learning_rate` if it is None.
  """
  optim = config.optim
  name = optim.schedule.name
  if name not in _FACTORS:
    raise ConfigError(
      f"config.optim.schedule.name is {name!r}; allowed are "
      f"{', '.join(_FACTORS)}."
    )
  known = registry.keyword_arguments(_FACTORS[name])
  args = optim.schedule.args
  args = registry.check_arguments("optim.schedule", name, args, known)
  factor = _FACTORS[name](**args)
  highest = optim.learning_rate if highest is None else highest

  def schedule(step: jax.Array | int) -> Float[Array, ""]:
    step = jnp.asarray(step, jnp.float32)
    warmup = jnp.minimum(1.0, (step + 1) / max(optim.warmup_steps, 1))
    rest = max(num_steps - optim.warmup_steps, 1)
    fraction = jnp.clip((step - optim.warmup_steps) / rest, 0, 1)
    return highest * warmup * factor(fraction)

  return schedule


def optimizer(
  config: ConfigDict, num_steps: int
) -> optax.GradientTransformation:
  """Returns gradient clipping and the optimizer that the config names.

  `config.optim.optimizer.name` is `muon` or any optimizer of optax (adam,
  adamw, adamax, ...); `args` are its other arguments; a mask of weight decay is
  one of `weight_decay`. The auxiliary network of
  an objective has its own optimizer, config.optim.auxiliary, and its gradient
  is clipped separately.
  """
  model = _player(config, "optim", config.optim, num_steps)
  if objectives.auxiliary_of(config) is None:
    return model
  own = config.optim.auxiliary
  auxiliary = _player(config, "optim.auxiliary", own, num_steps)

  def owner(params: Any) -> dict[str, str]:
    return {k: "auxiliary" if k == "auxiliary" else "model" for k in params}

  return optax.partition({"model": model, "auxiliary": auxiliary}, owner)


def _player(
  config: ConfigDict, parent: str, settings: ConfigDict, num_steps: int
) -> optax.GradientTransformation:
  """Returns the optimizer of the model, or of the auxiliary network."""
  field, node = f"{parent}.optimizer", settings.optimizer
  rate = learning_rate(config, num_steps, highest=settings.learning_rate)
  function = getattr(muon if node.name == "muon" else optax, node.name, None)
  takes = inspect.signature(function).parameters if callable(function) else {}
  if "learning_rate" not in takes:
    raise ConfigError(
      f"config.{field}.name is {node.name!r}; it must be muon or an optimizer "
      "of optax, such as adam, adamw or adamax."
    )
  masks = weight_decay.masks(field, node)
  known = {k: p.default for k, p in takes.items() if k != "learning_rate"}
  plain = (bool, int, float, str)
  known = {k: v if isinstance(v, plain) else None for k, v in known.items()}
  mask = weight_decay.argument(node.name)
  open_args = {k: v for k, v in node.args.items() if k != mask}
  args = registry.check_arguments(
    field, node.name, ConfigDict(open_args), known
  )
  for key, value in args.items():
    if known[key] is None:
      _check_open(f"config.{field}.args.{key}", value, takes[key].default)
  args |= masks
  try:
    chosen = function(rate, **args)
    # Some optimizers accept no schedule or need more than gradients.
    probe = {"w": jnp.zeros(2)}
    jax.eval_shape(lambda p: chosen.update(p, chosen.init(p), p), probe)
  except (TypeError, ValueError, AttributeError) as error:
    raise ConfigError(
      f"config.{field}.name is {node.name!r}, which cannot be used as it is: "
      f"{reason(error)}"
    ) from error
  transforms = [chosen]
  if config.optim.clip_norm:
    transforms.insert(0, optax.clip_by_global_norm(config.optim.clip_norm))
  return optax.chain(*transforms)


def _check_open(path: str, value: Any, default: Any) -> None:
  """Checks an argument whose default says nothing about its type."""
  key = path.rpartition(".")[2]
  if "dtype" in key:
    good, allowed = value in _TYPES, f"one of {', '.join(_TYPES)}"
  elif default is None or default is inspect.Parameter.empty:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    allowed = "a number"
  else:
    good, allowed = False, f"left out: no config can hold a {key}"
  if not good:
    raise ConfigError(f"{path} is {value!r}; it must be {allowed}.")


def update_ema(average: T, params: T, decay: float) -> T:
  """Returns decay * average + (1 - decay) * params."""
  return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)


def debias_ema(average: T, decay: float, count: int) -> T:
  """Returns the weighted mean of the weights so far: average / (1 - decay^t).

  After t updates the initial zeros have weight decay^t.

  References:
    Kingma and Ba, arXiv 1412.6980, section 3, on bias correction.
  """
  return jax.tree.map(lambda a: a / (1 - decay**count), average)
