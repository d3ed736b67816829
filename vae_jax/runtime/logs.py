"""What a person gets to read: this package's words, and others' only if bad."""

import logging as std_logging
import pathlib
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from absl import logging

# What goes wrong in these is raised to this package too, and said once there.
_TALKATIVE = {"asyncio", "orbax"}
_OWN = pathlib.Path(__file__).parents[1]


def quieten() -> None:
  """Keeps other packages' running commentary out of the terminal."""
  logging.use_absl_handler()
  handler = logging.get_absl_handler()
  handler.setFormatter(std_logging.Formatter("%(message)s"))
  handler.addFilter(_is_worth_reading)
  whole, of_threads = sys.excepthook, threading.excepthook
  of_nobody = sys.unraisablehook

  def hook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
  ) -> None:
    if not _is_of_others(trace):
      whole(kind, error, trace)

  def thread_hook(args: Any) -> None:
    if not _is_of_others(args.exc_traceback):
      of_threads(args)

  def thrown_away(args: Any) -> None:
    if not _is_of_others(args.exc_traceback):
      of_nobody(args)

  sys.excepthook, threading.excepthook = hook, thread_hook
  sys.unraisablehook = thrown_away


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
  path = pathlib.Path(record.pathname)
  if _OWN in path.parents:
    return True
  talkative = _TALKATIVE & set(path.parts)
  return not talkative and record.levelno >= std_logging.WARNING


def _is_of_others(trace: TracebackType | None) -> bool:
  """Whether an error arose and ended in a thread of a talkative package."""
  files = [pathlib.Path(f.filename) for f in traceback.extract_tb(trace)]
  own = any(_OWN in file.parents for file in files)
  return not own and any(_TALKATIVE & set(file.parts) for file in files)
