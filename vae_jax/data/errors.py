"""What is wrong with the data, in one sentence a user can act on."""

import difflib
from collections.abc import Iterable

from vae_jax.config import ConfigError


class DataError(ConfigError):
  """A data set cannot be found, prepared, read or cached as asked."""


def suggest(name: str, known: Iterable[str], most: int = 12) -> str:
  """Names to try instead of an unknown one, as the end of a sentence.

  Args:
    name: what was asked for.
    known: what there is, in the order to show it; may be paths.
    most: length of the longest list that is worth printing.

  Returns:
    "; did you mean ...?" with the nearest names, then all of them when they
    are few, or "" when neither helps.
  """
  known = list(known)
  # "Smilng" is far from "attributes/Smiling" but near its last part.
  ends = {path.rpartition("/")[2]: path for path in known}
  near = difflib.get_close_matches(name, known, n=3) or [
    ends[end] for end in difflib.get_close_matches(name, ends, n=3)
  ]
  text = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
  if known and len(known) <= most:
    text += f" (there {'is' if len(known) == 1 else 'are'}: "
    text += f"{', '.join(known)})"
  return text
