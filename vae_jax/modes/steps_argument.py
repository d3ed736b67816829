"""Checks `--steps`, the images along each path."""

from vae_jax.config import ConfigError

_MAX_STEPS = 100  # Larger pictures cannot be viewed.


def check(steps: int) -> None:
  """Raises ConfigError unless the number of steps is from 2 to 100."""
  if not 2 <= steps <= _MAX_STEPS:
    raise ConfigError(f"--steps is {steps}; it must be from 2 to {_MAX_STEPS}.")
