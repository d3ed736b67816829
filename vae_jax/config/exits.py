"""Exit codes, and the last words of the program."""

import errno
import os
import sys
import traceback
from typing import Any, NoReturn

from vae_jax.config.errors import ConfigError, reason

# Codes of the shell's own commands.
WRONG_INPUT = 2
EXIT_STORAGE = 74
_EXIT_CTRL_C = 130
# Errors of a disk that is full, read-only or broken.
_STORAGE_ERRORS = (
  errno.EACCES,
  errno.EDQUOT,
  errno.EFBIG,
  errno.EIO,
  errno.ENOSPC,
  errno.EROFS,
)

# Of those, errors of writing alone.
_WRITE_ERRORS = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)
# A file where a folder belongs, the other way round, or neither.
_WRONG_FILES = (errno.EEXIST, errno.EISDIR, errno.ENOENT, errno.ENOTDIR)
# EX_OSERR of sysexits.h.
_EXIT_MEMORY = 71


def exit_code(error: BaseException) -> int | None:
  """Returns the program's exit code after an error; None for a defect."""
  if isinstance(error, ConfigError):
    return WRONG_INPUT
  if isinstance(error, KeyboardInterrupt):
    return _EXIT_CTRL_C
  if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
    return EXIT_STORAGE
  if isinstance(error, OSError) and error.errno in _WRONG_FILES:
    return WRONG_INPUT if error.filename else None
  if isinstance(error, MemoryError):
    return _EXIT_MEMORY
  return getattr(error, "exit_code", None)


def words(error: BaseException) -> str:
  """Returns an error that has an exit code in one sentence."""
  if isinstance(error, MemoryError):
    return f"This machine has too little memory ({reason(error)})."
  if not isinstance(error, OSError) or exit_code(error) is None:
    return str(error) or "Stopped."
  if error.errno == errno.EEXIST:
    return f"{error.filename} is a file where a folder belongs."
  if error.errno in _WRITE_ERRORS and error.filename:
    return f"{error.filename} cannot be written: {error.strerror}."
  if error.filename:
    return f"{error.filename}: {error.strerror}."
  return str(error)


def wants_trace() -> bool:
  """Returns whether the command line asks for stack traces."""
  # The flags are not parsed yet where one of them is wrong.
  return bool({"--traceback", "--traceback=true"} & set(sys.argv))


def show(error: BaseException) -> None:
  """Prints the stack trace of an error, once, if --traceback asks for it."""
  if wants_trace() and not hasattr(error, "shown"):
    error.shown = True
    traceback.print_exception(error)


def say(text: str, stream: Any = None) -> None:
  """Prints a text, of which a reader such as `head` may take a part only.

  `stream` is a text file; None = stdout.
  """
  stream = stream or sys.stdout
  try:
    print(text, file=stream, flush=True)
  except BrokenPipeError:
    # The interpreter flushes once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave(
  message: str, code: int, error: BaseException | None = None
) -> NoReturn:
  """Ends the program with a message and an exit code.

  Args:
    message: the last line on stderr.
    code: the exit code.
    error: the reason, whose stack trace --traceback asks for.
  """
  if error is not None:
    show(error)
  say(message, sys.stderr)
  sys.exit(code)
