"""Constraints on hyperparameters, declared in the signature of a loss.

    def my_loss(vae, batch, *, power: Annotated[float, AtLeast(0)] = 1.0):

`objectives.from_config` checks the settings of a run against them before
anything is compiled; a loss that is decorated with `checked` also checks the
arguments of a direct call.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from vae_jax.config import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


class Constraint(Protocol):
  """A condition on a value, and its wording."""

  def allows(self, value: Any) -> bool:
    """Whether the value meets the condition."""

  @property
  def words(self) -> str:
    """The condition, as the second half of an error message."""


@dataclasses.dataclass(frozen=True)
class AtLeast:
  """value >= least."""

  least: float

  def allows(self, value: float) -> bool:
    """Whether value >= least; False for nan."""
    return value >= self.least

  @property
  def words(self) -> str:
    """The condition in words."""
    least = "0 or more" if self.least == 0 else f"at least {self.least}"
    return f"it must be {least}"


@dataclasses.dataclass(frozen=True)
class AtMost:
  """value <= most."""

  most: float

  def allows(self, value: float) -> bool:
    """Whether value <= most; False for nan."""
    return value <= self.most

  @property
  def words(self) -> str:
    """The condition in words."""
    return f"it must be at most {self.most}"


@dataclasses.dataclass(frozen=True)
class Between:
  """low <= value <= high, or low < value < high if the ends are excluded."""

  low: float
  high: float
  ends: bool = True

  def allows(self, value: float) -> bool:
    """Whether the value lies in the interval; False for nan."""
    if value in (self.low, self.high):
      return self.ends
    return self.low < value < self.high

  @property
  def words(self) -> str:
    """The condition in words."""
    if self.ends:
      return f"it must be from {self.low} to {self.high}"
    return f"it must be between {self.low} and {self.high}, ends excluded"


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
  """One of several values."""

  options: tuple[Any, ...]

  def __init__(self, *options: Any):
    object.__setattr__(self, "options", options)

  def allows(self, value: Any) -> bool:
    """Whether the value is one of the options."""
    return value in self.options

  @property
  def words(self) -> str:
    """The condition in words."""
    return f"allowed are {', '.join(map(str, self.options))}"


def require(name: str, value: Any, condition: bool, words: str) -> None:
  """Refuses a hyperparameter that does not meet a condition.

  Args:
    name: the argument of `config.objective.args`.
    value: its value.
    condition: whether the value is allowed.
    words: the condition in words, such as "it must be 0 or more".

  Raises:
    ConfigError: the condition is False.
  """
  if not condition:
    raise ConfigError(f"config.objective.args.{name} is {value!r}; {words}.")


def check(function: Callable[..., Any], values: Mapping[str, Any]) -> None:
  """Checks arguments against the constraints in a function's signature.

  Args:
    function: a function whose parameters may be `Annotated` with constraints.
    values: arguments by name.

  Raises:
    ConfigError: a value does not meet a constraint of its parameter.
  """
  constraints = _constraints(function)
  for name, value in values.items():
    for constraint in constraints.get(name, ()):
      allowed = constraint.allows(value)
      require(name, value, allowed, constraint.words)


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
  try:
    hints = typing.get_type_hints(function, include_extras=True)
  except NameError:  # A name that is imported for type checkers only.
    hints = function.__annotations__
  return {
    name: tuple(v for v in typing.get_args(hint)[1:] if hasattr(v, "allows"))
    for name, hint in hints.items()
    if typing.get_origin(hint) is typing.Annotated
  }
