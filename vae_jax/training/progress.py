"""How far a long run is, and where its time goes."""

import contextlib
import sys
import time
from collections.abc import Iterator

import tqdm
from absl import logging

from vae_jax.runtime import devices

# Seconds between lines where the output is no terminal.
_LINE_EVERY = 30.0


class Stopwatch:
  """Wall time of a loop, with what is spent waiting and what beside it.

  Attributes:
    images: images trained on since `restart`.
    waited: seconds spent in `waiting`.
  """

  def __init__(self):
    self.restart()

  def restart(self) -> None:
    """Starts from zero."""
    self._begin, self._beside = time.monotonic(), 0.0
    self.images, self.waited = 0, 0.0

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Counts the time inside as spent waiting for data."""
    begin = time.monotonic()
    yield
    self.waited += time.monotonic() - begin

  @contextlib.contextmanager
  def beside(self) -> Iterator[None]:
    """Leaves the time inside out, as validation and pictures."""
    begin = time.monotonic()
    yield
    self._beside += time.monotonic() - begin

  @property
  def seconds(self) -> float:
    """Seconds since `restart`, less what was beside."""
    return time.monotonic() - self._begin - self._beside


class Progress:
  """One line: step, epoch, images/s, time left and a value of a run."""

  def __init__(self, *, start: int, stop: int, batch_size: int, epoch: float):
    """Starts at step `start` of `stop`; `epoch` is steps per epoch."""
    self._stop, self._batch, self._epoch = stop, batch_size, epoch
    # Of the processes of a job one shows it.
    self._shown = devices.is_lead()
    self._terminal = sys.stderr.isatty() and self._shown
    self._bar = tqdm.tqdm(
      total=stop * batch_size,
      initial=start * batch_size,
      unit="img",
      unit_scale=True,
      dynamic_ncols=True,
      disable=not self._terminal,
      bar_format=(
        "{desc} {percentage:3.0f}%|{bar:24}| {rate_fmt}, "
        "{remaining} left{postfix}"
      ),
    )
    self._value = ""
    self._started = self._last = time.monotonic()
    self._first = start

  def value(self, text: str) -> None:
    """Sets what is shown beside the speed, as "neg_elbo 101.2"."""
    self._value = text

  def update(self, step: int) -> None:
    """Shows that `step` steps are done."""
    done = f"step {step}/{self._stop}, epoch {step / self._epoch:.1f}"
    now = time.monotonic()
    if self._terminal:
      self._bar.set_description_str(done, refresh=False)
      self._bar.set_postfix_str(self._value, refresh=False)
      self._bar.update(step * self._batch - self._bar.n)
    elif self._shown and now - self._last >= _LINE_EVERY:
      self._last = now
      rate = (step - self._first) / (now - self._started)
      left = tqdm.tqdm.format_interval((self._stop - step) / max(rate, 1e-9))
      logging.info(
        "%s, %.0f img/s, %s left, %s",
        done,
        rate * self._batch,
        left,
        self._value,
      )

  def close(self) -> None:
    """Leaves the last line standing."""
    self._bar.close()
