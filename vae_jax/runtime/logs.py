"""Log filtering: messages of this package, and warnings of other packages."""

import logging as std_logging
import pathlib

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


def _is_worth_reading(record: std_logging.LogRecord) -> bool:
  path = pathlib.Path(record.pathname)
  if _OWN in path.parents:
    return True
  is_talkative = bool(_TALKATIVE & set(path.parts))
  return not is_talkative and record.levelno >= std_logging.WARNING
