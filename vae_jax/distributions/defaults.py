"""What distributions of one's own may leave out.

`models.Vae` completes what a prior, a posterior or a likelihood returns:

  prior       has sample(key) and log_prob(z); sample(key, temperature) is
              optional: draws are scaled about `mean`, or 0 without a mean
  posterior   has mean, sample(key) and log_prob(z); sample_and_log_prob(key),
              has_kl(prior) and kl(prior) are optional: rates are then
              log q(z) - log p(z) at the draw
  likelihood  has mean and log_prob(image); metrics(image) is optional: the
              squared error of the mean

Shapes are those of `distributions.normal` and `distributions.pixels`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from vae_jax.config import ConfigError
from vae_jax.distributions import pixels
from vae_jax.distributions.normal import Deterministic


class _Completed:
  """An object, with methods that it lacks.

  Attributes:
    own: the object.
    methods: {name: function of the object}.
  """

  def __init__(self, own: Any, methods: Mapping[str, Callable[..., Any]]):
    self.own, self.methods = own, methods

  def __getattr__(self, name: str) -> Any:
    if name in self.__dict__["methods"]:
      return functools.partial(self.methods[name], self.own)
    return getattr(self.own, name)


def _complete(own: Any, methods: Mapping[str, Callable[..., Any]]) -> Any:
  missing = {k: v for k, v in methods.items() if not hasattr(own, k)}
  return _with(own, missing) if missing else own


def _with(own: Any, methods: Mapping[str, Callable[..., Any]]) -> _Completed:
  # Messages name the type.
  return type(type(own).__name__, (_Completed,), {})(own, methods)


def prior(own: Any) -> Any:
  """Returns a prior whose `sample` takes a temperature."""
  sample = getattr(own, "sample", None)
  takes = inspect.signature(sample).parameters if callable(sample) else {}
  if "temperature" in takes or any(
    p.kind is p.VAR_KEYWORD for p in takes.values()
  ):
    return own
  return _with(own, {"sample": _scaled})


def _scaled(own: Any, key: Any, temperature: float | jax.Array = 1.0) -> Any:
  """Returns draws whose standard deviation is multiplied by `temperature`."""
  mean = getattr(own, "mean", 0.0)
  return mean + temperature * (own.sample(key) - mean)


def posterior(own: Any) -> Any:
  """Returns a posterior with all methods; a point stays one."""
  if isinstance(own, Deterministic):
    return own
  return _complete(
    own,
    {
      "sample_and_log_prob": _sample_and_log_prob,
      "has_kl": lambda own, prior: hasattr(own, "kl"),
      "kl": _no_kl,
    },
  )


def _sample_and_log_prob(own: Any, key: Any) -> tuple[Any, Any]:
  z = own.sample(key)
  return z, own.log_prob(z)


def _no_kl(own: Any, prior: Any) -> Any:
  raise ConfigError(
    f"There is no closed form of KL({type(own).__name__} || "
    f"{type(prior).__name__}); set config.objective.args.kl to sampled."
  )


def likelihood(own: Any) -> Any:
  """Returns a likelihood with all methods."""
  return _complete(
    own,
    {
      "metrics": lambda own, image: {
        "squared_error": pixels.squared_error(image, own.mean)
      }
    },
  )
