"""Log filtering: messages of this package, and warnings of other packages."""

import logging as std_logging
import pathlib
import sys
from typing import Any

from absl import logging

# Their errors are raised, and reported, in this package, too.
_TALKATIVE = {"asyncio", "orbax"}
_OWN = pathlib.Path(__file__).parents[1]


def configure() -> None:
  """Sets format and filter of absl's handler."""
  logging.use_absl_handler()
  handler = logging.get_absl_handler()
  handler.setFormatter(std_logging.Formatter("%(message)s"))
  handler.addFilter(_is_worth_reading)
  sys.unraisablehook = _show_unraisable


def in_notebook() -> bool:
  """Returns whether this is the kernel of a notebook."""
  return "ipykernel" in sys.modules


def is_live() -> bool:
  """Returns whether a line on stderr can be redrawn: on a terminal, and in a
  notebook."""
  return sys.stderr.isatty() or in_notebook()


def show_in_session() -> None:
  """Shows messages in a notebook or at Python's prompt, as the program does."""
  if in_notebook() or hasattr(sys, "ps1"):
    configure()
    logging.set_verbosity(logging.INFO)


def _show_unraisable(error: Any) -> None:
  # When one array of a checkpoint cannot be written, Orbax closes the loop that
  # TensorStore still calls for the others.
  if str(error.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(error)


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
  path = pathlib.Path(record.pathname)
  if _OWN in path.parents:
    return True
  is_talkative = bool(_TALKATIVE & set(path.parts))
  return not is_talkative and record.levelno >= std_logging.WARNING
