"""The command line: flags parsed, and whatever is wrong said in one sentence."""

import errno
import pathlib
import re
import sys
from typing import NoReturn

from absl import app, flags

from vae_jax import config as config_lib

# What the shell's own commands use.
EXIT_WRONG_INPUT = 2
EXIT_CTRL_C = 130
EXIT_STORAGE = 74
# What the system says of disks that are full, read-only or broken.
STORAGE_ERRORS = (
  errno.EACCES,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EIO,
  errno.ENOSPC,
  errno.EROFS,
)


def parse(argv: list[str]) -> list[str]:
  """Parses flags; whatever is wrong with them is said in one sentence."""
  if {"--help", "-h", "-help"} & set(argv[1:]):
    # absl's own --help ends with 1, as if it had failed.
    app.usage(shorthelp=True, writeto_stdout=True)
    sys.exit(0)
  try:
    for word in argv[1:]:
      path = re.match(r"--(?:no)?config\.([\w.]+)", word)
      if path:
        config_lib.check_path(path.group(1))
    file, _, variant = _config_path(argv).partition(":")
    settings = [word for word in argv[1:] if word.startswith("--config.")]
    if settings and not file:
      raise config_lib.ConfigError(
        f"{settings[0]} needs --config=FILE, such as configs/faces.py, beside "
        "it."
      )
    if file and not pathlib.Path(file).is_file():
      raise config_lib.ConfigError(f"There is no config file {file}.")
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise config_lib.ConfigError(
        f"{rest[1]!r} is no flag; settings are given as --config.name=value."
      )
    return rest
  except config_lib.ConfigError as error:
    leave(str(error), EXIT_WRONG_INPUT)
  except flags.Error as error:
    wrong = re.search(r"TypeError: (.*override field.*)", str(error))
    if wrong:
      leave(f"{_config_path(argv)}: {wrong.group(1)}", EXIT_WRONG_INPUT)
    own = re.search(r"ConfigError: (.*)", str(error))
    if own:
      leave(own.group(1), EXIT_WRONG_INPUT)
    if variant and "get_config() takes" in str(error):
      leave(f"{file} has no variants, as {variant!r}.", EXIT_WRONG_INPUT)
    group = re.match(
      r"flag --(config[\w.]*)=(.*?): .*as a ConfigDict", str(error)
    )
    if group:
      leave(
        f"{group.group(1)} is a group of settings; did you mean "
        f"--{group.group(1)}.name={group.group(2)}?",
        EXIT_WRONG_INPUT,
      )
    leave(f"{error}\nTry --help.", EXIT_WRONG_INPUT)
  except (KeyError, AttributeError, TypeError) as error:
    # Of ml_collections; anything else is a defect of the config file's code.
    if not re.search(
      "config is locked|override field|Field .* type", str(error)
    ):
      raise
    leave(config_lib.file_error(_config_path(argv), error), EXIT_WRONG_INPUT)


def _config_path(argv: list[str]) -> str:
  for i, word in enumerate(argv):
    if word.startswith("--config="):
      return word.partition("=")[2]
    if word == "--config" and i + 1 < len(argv):
      return argv[i + 1]
  return ""


def leave(message: str, code: int) -> NoReturn:
  """Ends the program with a sentence and an exit code."""
  print(message, file=sys.stderr)
  sys.exit(code)
