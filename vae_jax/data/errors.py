"""Errors about data, and suggestions for misspelled names."""

import difflib
from collections.abc import Iterable

from vae_jax.config import ConfigError


class DataError(ConfigError):
  """The data set cannot be found, prepared, read or cached."""


def suggest(name: str, known: Iterable[str], most: int = 12) -> str:
  """Returns the end of a message about an unknown name: "; did you mean ...?"
  with the nearest known names, which may be paths, then all of them if they are
  at most `most`; "" if neither applies."""
  known = list(known)
  # By last part too: "Smilng" is far from "attributes/Smiling" as a whole.
  ends = {path.rpartition("/")[2]: path for path in known}
  near = difflib.get_close_matches(name, known, n=3) or [
    ends[end] for end in difflib.get_close_matches(name, ends, n=3)
  ]
  text = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
  if known and len(known) <= most:
    text += f" (there {'is' if len(known) == 1 else 'are'}: "
    text += f"{', '.join(known)})"
  return text
