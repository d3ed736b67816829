"""Progress of long work: a bar on a terminal or in a notebook, else lines."""

import time

from absl import logging
from tqdm import auto as tqdm

from vae_jax.runtime import logs

# Seconds between lines where the output is no terminal.
LINE_SECONDS = 30.0


class Bar:
  """Shows how much of a whole is done; ends with its `with` block.

  A log that is no terminal gets a line now and then, none for short work: a bar
  redraws itself, which there fills the log.
  """

  def __init__(
    self,
    total: int | None,
    doing: str,
    unit: str,
    *,
    shown: bool = True,
    every: float = LINE_SECONDS,
  ):
    """Starts at 0 of `total`, None = unknown; `doing` and `unit` are words, as
    "decoding" and "images"."""
    self._total, self._doing, self._unit = total, doing, unit
    self._shown, self._every = shown, every
    self._done, self._last = 0, time.monotonic()
    self._bar = tqdm.tqdm(
      total=total,
      desc=doing,
      unit=f" {unit}",
      unit_scale=True,
      disable=not (shown and logs.is_live()),
    )

  def update(self, count: int, note: str = "") -> None:
    """Adds to what is done; a note, such as a value, stands beside it."""
    self._done += count
    self._bar.set_postfix_str(note, refresh=False)
    self._bar.update(count)
    now = time.monotonic()
    if self._shown and self._bar.disable and now - self._last >= self._every:
      self._last = now
      whole = "" if self._total is None else f" of {self._total:,}"
      done = f"{self._done:,}{whole} {self._unit}"
      logging.info("%s: %s", self._doing, ", ".join(filter(None, (done, note))))

  def __enter__(self) -> "Bar":
    return self

  def __exit__(self, *error: object) -> None:
    self._bar.close()
