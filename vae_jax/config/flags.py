"""The flags of the command line, their parser, and the exit codes."""

import math
import os
import pathlib
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, exits, files, run_settings

CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "File with get_config(), such as configs/faces.py, or a variant of it, such "
  "as configs/iwae_mnist.py:short.",
  # New keys are accepted for `args` nodes; all others are checked below.
  lock_config=False,
  accept_new_attributes=True,
)
# ml_collections reports a file's mistakes by a stack trace.
flags.FLAGS["config"].parser.parse = files.load
MODE = flags.DEFINE_string("mode", "train", "Mode to run (default train).")
WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder or address of the run (default runs/<name of the config file>"
  "[_<variant>]).",
)
SEED = flags.DEFINE_integer(
  "seed",
  None,
  "Random seed for modes of a trained run; overrides config.sample.seed and "
  "config.eval.seed.",
)
COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "HOST:PORT of process 0, where processes meet (default: detected).",
)
NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes in the job (default: detected)."
)
PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Index of this process, from 0 (default: detected)."
)
TRACEBACK = flags.DEFINE_bool(
  "traceback", False, "Show the stack trace of an error, JAX's frames included."
)
# Keyword arguments of the `run` of one mode or several.
_OF_MODES = (
  flags.DEFINE_list(
    "workdirs", None, "Folders of the runs to compare, separated by commas."
  ),
  flags.DEFINE_float(
    "temperature",
    None,
    "Factor on the standard deviation of the prior, or of the density's "
    "components; overrides config.sample.temperature.",
  ),
  flags.DEFINE_string(
    "density",
    None,
    "Density of the codes to draw from: prior, or one fitted to the codes "
    "after the training, gaussian_mixture or flow (default prior; of an "
    "autoencoder gaussian_mixture).",
  ),
  flags.DEFINE_string(
    "images",
    None,
    "Images to use: data:test:0-7, me.jpg or 'folder/*.png'; | joins several.",
  ),
  flags.DEFINE_string(
    "latent",
    None,
    "Code to decode: numbers such as 0.0,0.03, or a file (.json, .npy, .npz).",
  ),
  flags.DEFINE_integer(
    "steps",
    None,
    "Images along each path, or side of a manifold, 2 to 100 (default 9, "
    "manifold 20).",
  ),
  flags.DEFINE_string(
    "attribute",
    None,
    "Attribute to edit, such as Smiling or Smiling=2,Eyeglasses=-1, or to "
    "color points by; or the condition of a conditional model, as "
    "Smiling,Male=0.",
  ),
  flags.DEFINE_string(
    "label",
    None,
    "Class, by name or index, as the condition of a conditional model (default "
    "the images' own, or one row a class).",
  ),
  flags.DEFINE_string(
    "normal",
    None,
    "Classes, or an attribute, of normal images, separated by commas; the "
    "scores' AUROC tells the others from them (default normal or good, where "
    "a class has that name).",
  ),
  flags.DEFINE_string(
    "strength",
    None,
    "Strengths of the edit, as FIRST:LAST:STEP (default: what a measured edit "
    "needs, else -3:3:0.5).",
  ),
  flags.DEFINE_string(
    "direction",
    None,
    "Kinds of latent direction to use (default mean,balanced,probe,curved).",
  ),
  flags.DEFINE_integer(
    "examples",
    None,
    "Number of test images that the edit is measured on; 0 = not measured "
    "(default 200).",
  ),
  flags.DEFINE_integer("count", None, "Number of samples (default 100)."),
  flags.DEFINE_bool("individual", None, "Write one PNG for each sample."),
  flags.DEFINE_string("host", None, "Address to serve at (default 127.0.0.1)."),
  flags.DEFINE_integer(
    "port",
    None,
    "Port to serve at; 0 = any free one (default: the first free one from "
    "7860).",
  ),
  flags.DEFINE_float(
    "seconds",
    None,
    "Duration of the measurement in seconds (default 15).",
    lower_bound=0.0,
    upper_bound=1e6,
  ),
)
_OF_ALL = (
  CONFIG,
  MODE,
  WORKDIR,
  SEED,
  COORDINATOR,
  NUM_PROCESSES,
  PROCESS_ID,
  TRACEBACK,
)
MODE_FLAGS = tuple(flag.name for flag in _OF_MODES)
# Settings of a command line without --config, for a trained run.
_settings: list[str] = []


def values() -> dict[str, Any]:
  """Returns the values of the flags of modes that are set, by name."""
  pairs = ((flag.name, flag.value) for flag in _OF_MODES)
  given = {name: value for name, value in pairs if value is not None}
  for name, value in given.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise ConfigError(f"--{name} is {value}; it must be a finite number.")
  return given


def check(mode: str, needs: str) -> None:
  """Raises a ConfigError if --config, --workdir or --seed do not fit a mode
  with its NEEDS, see `vae_jax.modes`."""
  if needs == "nothing" and (CONFIG.value is not None or _settings):
    raise ConfigError(f"--config is not for --mode={mode}.")
  if needs != "nothing" and CONFIG.value is None:
    if WORKDIR.value is None:
      raise ConfigError(
        "Name a config, as --config=configs/faces.py, or --help."
      )
    if needs == "config":
      raise ConfigError(
        f"--mode={mode} needs a config, as --config=configs/faces.py."
      )
  if needs != "run" and SEED.value is not None:
    hint = ", which reads --config.sample.seed" if needs == "config" else ""
    raise ConfigError(f"--seed is not for --mode={mode}{hint}.")


def workdir(prefix: str) -> str:
  """Returns --workdir, or its default, whose name begins with the prefix."""
  if WORKDIR.value is not None:
    return WORKDIR.value
  given = CONFIG.value is not None
  path = flags.FLAGS["config"].config_filename if given else ""
  file, _, variant = path.partition(":")
  name = "_".join(filter(None, [prefix, pathlib.Path(file).stem, variant]))
  return str(pathlib.Path("runs") / name)


def overrides(trained: ConfigDict | None = None) -> dict[str, Any]:
  """Returns the settings that the flags override, by dotted path; without
  --config their types are those of a `trained` run's config."""
  settings = {}
  if CONFIG.value is not None:
    settings |= config_flags.get_override_values(flags.FLAGS["config"])
  elif trained is not None:
    settings |= run_settings.parse(_settings, trained)
  if SEED.value is not None:
    settings |= {"sample.seed": SEED.value, "eval.seed": SEED.value}
  return settings


def describe(readers: Mapping[str, Sequence[str]]) -> str:
  """Returns the help text of all flags, with the modes that read them."""
  lines = []
  for holder in (*_OF_ALL, *_OF_MODES):
    text = flags.FLAGS[holder.name].help
    if holder.name in readers:
      text = f"[{', '.join(readers[holder.name])}] {text}"
    wrapped = textwrap.wrap(text, 63)
    heads = [f"--{holder.name}", *[""] * len(wrapped)]
    lines += [f"  {h:<15} {t}" for h, t in zip(heads, wrapped, strict=False)]
  return "\n".join(lines)


def parse(argv: list[str], usage: Callable[[], str]) -> list[str]:
  """Parses flags, of which --help prints the usage; ends the program with one
  sentence if one is wrong."""
  if exits.wants_trace():
    # JAX reads it when it is imported.
    os.environ["JAX_TRACEBACK_FILTERING"] = "off"
  if {"--help", "-h", "-help"} & set(argv[1:]):
    exits.say(usage())
    sys.exit(0)  # absl's own --help ends with 1, as if it had failed.
  try:
    _check_words(argv)
    if not _config_path(argv):
      argv, _settings[:] = run_settings.split(argv)
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise ConfigError(
        f"{rest[1]!r} is no flag; settings are given as --config.name=value."
      )
    return rest
  except ConfigError as error:
    exits.leave(str(error), exits.WRONG_INPUT, error)
  except flags.Error as error:
    # absl turns the errors of a parser into its own.
    inner = error.__context__
    if isinstance(inner, ConfigError):
      exits.leave(str(inner), exits.WRONG_INPUT, inner)
    exits.leave(_sentence(str(error)), exits.WRONG_INPUT, error)
  except (KeyError, AttributeError, TypeError) as error:
    # Other errors than ml_collections' are defects of the config file's code.
    if not re.search(
      "config is locked|override field|Field .* type", str(error)
    ):
      raise
    text = config_lib.file_error(_config_path(argv), error)
    exits.leave(text, exits.WRONG_INPUT, error)


def _check_words(argv: list[str]) -> None:
  """Raises a ConfigError for errors that absl would report less clearly."""
  for word in argv[1:]:
    path = re.match(r"--(?:no)?config\.([\w.]+)", word)
    if path:
      config_lib.check_path(path.group(1))
  file = _config_path(argv).partition(":")[0]
  settings = [word for word in argv[1:] if word.startswith("--config.")]
  if settings and not file and not _named(argv, "workdir"):
    raise ConfigError(
      f"{settings[0]} needs --config=FILE, such as --config=configs/faces.py, "
      "or --workdir of a trained run."
    )
  if file and not pathlib.Path(file).is_file():
    raise ConfigError(f"There is no config file {file}.")


def _sentence(error: str) -> str:
  """Returns an error of absl in one sentence where it is a known one."""
  if group := re.match(
    r"flag --(config[\w.]*)=(.*?): .*as a ConfigDict", error
  ):
    return (
      f"{group.group(1)} is a group of settings; did you mean "
      f"--{group.group(1)}.name={group.group(2)}?"
    )
  return f"{error}\nTry --help."


def _config_path(argv: list[str]) -> str:
  return _named(argv, "config")


def _named(argv: list[str], flag: str) -> str:
  """Returns the value of a flag before it is parsed, "" without it."""
  for i, word in enumerate(argv):
    if word.startswith(f"--{flag}="):
      return word.partition("=")[2]
    if word == f"--{flag}" and i + 1 < len(argv):
      return argv[i + 1]
  return ""
