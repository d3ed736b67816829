"""Settings of the command line for a trained run, without --config.

Their types are those of the run's own config, which is read later than flags.
"""

import re
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vae_jax.config.errors import ConfigError, reason
from vae_jax.config.overrides import get
from vae_jax.config.schema import default

_WORD = re.compile(r"--(?:no)?config\.([\w.]+)(=)?")


def split(argv: list[str]) -> tuple[list[str], list[str]]:
  """Returns the words of a command line without its settings, as
  --config.eval.split=test, and the words of these."""
  rest, settings = [], []
  words = iter(argv)
  for word in words:
    match = _WORD.match(word)
    if not match:
      rest.append(word)
      continue
    settings.append(word)
    if not match.group(2) and not _is_switch(match.group(1)):
      settings += [value for value in [next(words, None)] if value is not None]
  return rest, settings


def _is_switch(path: str) -> bool:
  try:
    return isinstance(get(default(), path), bool)
  except (KeyError, TypeError):
    return False


def parse(words: list[str], config: ConfigDict) -> dict[str, Any]:
  """Returns the values of settings by dotted path, of the types in a config.

  Raises:
    ConfigError: a value has another type.
  """
  holder, argv = flags.FlagValues(), ["", *words]
  config_flags.DEFINE_config_dict(
    "config",
    config.copy_and_resolve_references(),
    flag_values=holder,
    lock_config=False,
    accept_new_attributes=True,
    sys_argv=argv,
  )
  try:
    rest = holder(argv)
  except (flags.Error, KeyError, AttributeError, TypeError) as error:
    raise ConfigError(f"{reason(error, limit=300)}.") from error
  if len(rest) > 1:
    raise ConfigError(f"{rest[1]!r} is no flag.")
  return config_flags.get_override_values(holder["config"])
