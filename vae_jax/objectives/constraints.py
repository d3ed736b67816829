"""Constraints on hyperparameters, declared in the signature of a loss.

    def my_loss(vae, batch, *, power: Annotated[float, at_least(0)] = 1.0):

`objectives.from_config` checks the settings of a run against them before
anything is compiled; a function that is decorated with `checked` also checks
the arguments of each call.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vae_jax.config import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Constraint:
  """A condition on a value, and it in words, to end an error message."""

  allows: Callable[[Any], bool]
  words: str


def at_least(least: float | int) -> Constraint:
  """value >= least."""
  words = "0 or more" if least == 0 else f"at least {least}"
  return Constraint(lambda v: v >= least, f"it must be {words}")


def at_most(most: float | int) -> Constraint:
  """value <= most."""
  return Constraint(lambda v: v <= most, f"it must be at most {most}")


def between(
  low: float | int, high: float | int, *, ends: bool = True
) -> Constraint:
  """low <= value <= high, or low < value < high without the ends."""
  if ends:
    words = f"it must be from {low} to {high}"
    return Constraint(lambda v: low <= v <= high, words)
  words = f"it must be between {low} and {high}, both excluded"
  return Constraint(lambda v: low < v < high, words)


def choice(*options: str) -> Constraint:
  """The value is one of the options."""
  words = f"allowed are {', '.join(options)}"
  return Constraint(lambda v: v in options, words)


def require(name: str, value: Any, condition: bool, words: str) -> None:
  """Refuses the value of `config.objective.args.<name>`, with words such as "it
  must be 0 or more", unless a condition is met."""
  if not condition:
    raise ConfigError(f"config.objective.args.{name} is {value!r}; {words}.")


def check(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
  """Checks arguments by name against the constraints in a signature.

  Raises:
    ConfigError: a value does not meet a constraint of its parameter.
  """
  constraints = _constraints(function)
  for name, value in values.items():
    for constraint in constraints.get(name, ()):
      require(name, value, constraint.allows(value), constraint.words)


def checked(function: F) -> F:
  """Decorates a function so that each call checks its arguments."""
  signature = inspect.signature(function)

  @functools.wraps(function)
  def run(*args: Any, **kwargs: Any) -> Any:
    check(function, signature.bind(*args, **kwargs).arguments)
    return function(*args, **kwargs)

  return run


@functools.cache
def _constraints(
  function: Callable[..., Any],
) -> dict[str, tuple[Constraint, ...]]:
  function = getattr(function, "func", function)  # Of functools.partial.
  try:
    hints = typing.get_type_hints(function, include_extras=True)
  except NameError:  # A name that is imported for type checkers only.
    hints = function.__annotations__
  except TypeError:  # An object that can be called.
    hints = {}
  return {
    name: tuple(v for v in hint.__metadata__ if isinstance(v, Constraint))
    for name, hint in hints.items()
    if typing.get_origin(hint) is typing.Annotated
  }
