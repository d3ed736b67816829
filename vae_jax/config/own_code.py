"""Errors in a person's own code: where they arose, and one sentence for them.

Own code is all that is neither of this package, nor of Python's library, nor
installed in site-packages.
"""

import contextlib
import inspect
import os
import pathlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from typing import Any

from vae_jax.config.errors import ConfigError

_PACKAGE = str(pathlib.Path(__file__).resolve().parents[1])
_LIBRARY = sysconfig.get_path("stdlib")
_INSTALLED = ("site-packages", "dist-packages")

# Beginnings of messages of JAX, Flax and Python -> what to do about them.
_HINTS = {
  "TracerBoolConversionError": "it branches on a value that only the device "
  "knows: use jnp.where or jax.lax.cond",
  "ConcretizationTypeError": "it asks for a number that only the device "
  "knows, as float(x), int(x) and x.item() do: keep it an array",
  "TracerIntegerConversionError": "it asks for a number that only the device "
  "knows: keep it an array",
  "TracerArrayConversionError": "it hands an array of the device to NumPy: use "
  "jax.numpy",
  "UnexpectedTracerError": "it keeps a value of one trace for another",
  "non-iterable Groups|'Groups' object": "an encoding is a distribution with "
  "one group: (q,) = vae.encode(batch.image).groups has q.mean and, if normal, "
  "q.log_variance",
  "'InstanceNorm|InvalidRngError|needs PRNG": "in evaluation there is no "
  "randomness: make dropout deterministic unless the field train is True",
  "ModifyScopeVariableError": "in evaluation, and outside of batch_stats, "
  "variables are constant: use the field train",
  "argument: 'train'": "train is a field of the class, which is filled in",
  "_DimExpr": "exported programs have any batch size: use x.shape[0], not "
  "len(x)",
  "Reverse-mode differentiation does not work": "use jax.lax.scan, or a "
  "fori_loop of fixed length",
}


def is_own(path: str) -> bool:
  """Returns whether a source file is a person's own."""
  parts = pathlib.Path(path).parts
  if path.startswith("<") or any(name in parts for name in _INSTALLED):
    return False
  real = os.path.realpath(path)
  return not any(
    pathlib.Path(folder) in pathlib.Path(real).parents
    for folder in (_PACKAGE, os.path.realpath(_LIBRARY))
  )


def line_of(error: BaseException) -> str:
  """Returns the last own line that an error passed through, as "losses.py,
  line 3"; "" if there is none."""
  if isinstance(error, SyntaxError) and error.filename:
    if is_own(error.filename):
      return _place(error.filename, error.lineno)
  for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
    if is_own(frame.f_code.co_filename):
      return _place(frame.f_code.co_filename, line)
  return ""


def definition(value: Any) -> str:
  """Returns where a function or class is defined, as `line_of`; "" if it is no
  Python code or stands in this package."""
  try:
    value = inspect.unwrap(value)
    path = inspect.getsourcefile(value)
    _, line = inspect.getsourcelines(value)
  except (TypeError, OSError):
    return ""
  return "" if path is None or _PACKAGE in path else _place(path, max(line, 1))


def _place(path: str, line: int | None) -> str:
  below = pathlib.Path(path).absolute()
  if pathlib.Path.cwd() in below.parents:
    path = os.path.relpath(path)
  return path if line is None else f"{path}, line {line}"


def gist(error: BaseException, *, limit: int = 200) -> str:
  """Returns an error's type and the first line of its message, and what to do
  about it where that is known."""
  name = type(error).__name__
  lines = [line for line in str(error).splitlines() if line.strip()]
  text = " ".join((lines or [""])[0].split())
  # Flax ends its messages with an address, Python some with a position.
  text = re.sub(r" \((https?://\S+|[\w.]+, line \d+)\)", "", text)
  text = re.sub(r":? https?://\S+", "", text)
  if len(text) > limit:
    text = text[:limit].rstrip() + " ..."
  for pattern, words in _HINTS.items():
    if re.search(pattern, f"{name}: {error}"):
      return f"{name}: {text.rstrip('. :')}; {words}"
  return f"{name}: {text.rstrip('. :')}" if text else name


def sentence(error: BaseException) -> str | None:
  """Returns one sentence for an error in own code, None for other errors."""
  place = line_of(error)
  return f"{place}: {gist(error)}." if place else None


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Turns an error that passed through own code, and a lack of memory, into a
  ConfigError.

  Errors with an exit code of their own stay as they are.
  """
  try:
    yield
  except (ConfigError, OSError):
    raise
  except MemoryError as error:
    text = f"This machine has too little memory ({gist(error)})."
    raise ConfigError(text) from error
  except Exception as error:
    text = sentence(error)
    if text is None:
      raise
    if hasattr(error, "exit_code"):
      raise
    raise ConfigError(text) from error
