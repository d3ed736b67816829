"""Rows, speed and progress line of a training run, and its divergence."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from absl import logging
from ml_collections import ConfigDict
from tqdm import auto as tqdm

from vae_jax.runtime import bars, devices, logs
from vae_jax.training import metrics
from vae_jax.training.loop import Loop, Result
from vae_jax.training.state import TrainState
from vae_jax.training.writer import Writer, read_rows

# Shortest time, in seconds, over which a row's images/s is measured.
_RATE_SECONDS = 1.0

T = TypeVar("T")


class Diverged(Exception):
  """Too many consecutive steps were skipped; the message gives the cause."""

  exit_code = 3


class Stopwatch:
  """Wall time of a loop: since `restart`, the `images` whose training steps are
  done, and the seconds `waited` for data."""

  def __init__(self):
    self.restart()

  def restart(self) -> None:
    """Starts from zero."""
    self._begin, self._paused = time.monotonic(), 0.0
    self.images, self.waited = 0, 0.0

  def waiting_for(self, items: Iterable[T]) -> Iterator[T]:
    """Yields the items, and counts the time until each as waiting."""
    items, begin = iter(items), time.monotonic()
    for item in items:
      self.waited += time.monotonic() - begin
      yield item
      begin = time.monotonic()

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves out the time inside, such as that of validation."""
    begin = time.monotonic()
    yield
    self._paused += time.monotonic() - begin

  @property
  def seconds(self) -> float:
    """Seconds since `restart`, without pauses."""
    return time.monotonic() - self._begin - self._paused


class Progress:
  """One line: step, epoch, images/s, time left and a value of a run."""

  def __init__(
    self, loop: Loop, start: int, *, every: float = bars.LINE_SECONDS
  ):
    """Starts at step `start`; without a terminal it logs `every` so many
    seconds."""
    self._loop, self._start, self._every = loop, start, every
    # One process of a job shows it.
    self._shown = devices.is_lead()
    self._terminal = logs.is_live() and self._shown
    self._bar = tqdm.tqdm(
      total=loop.num_steps * loop.batch_size,
      initial=start * loop.batch_size,
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
    self._began = self._last = time.monotonic()

  def value(self, text: str) -> None:
    """Sets the value at the end of the line, such as "neg_elbo 101.2"."""
    self._value = text

  def update(self, step: int) -> None:
    """Shows that `step` steps are done."""
    loop, now = self._loop, time.monotonic()
    done = f"step {step}/{loop.num_steps}, epoch {loop.epoch(step):.1f}"
    if self._terminal:
      self._bar.set_description_str(done, refresh=False)
      self._bar.set_postfix_str(self._value, refresh=False)
      self._bar.update(step * loop.batch_size - self._bar.n)
    elif self._shown and now - self._last >= self._every:
      self._last = now
      rate = (step - self._start) / (now - self._began)
      seconds = (loop.num_steps - step) / max(rate, 1e-9)
      left = f"{tqdm.tqdm.format_interval(seconds)} left"
      words = done, f"{rate * loop.batch_size:.0f} img/s", left, self._value
      logging.info("%s", ", ".join(filter(None, words)))

  def close(self) -> None:
    """Leaves the last line standing."""
    self._bar.close()


class StepLog:
  """Turns metrics of steps into rows, and stops a run that diverges."""

  def __init__(
    self,
    config: ConfigDict,
    loop: Loop,
    writer: Writer,
    state: TrainState,
    saved: Callable[[], int | None] = lambda: None,
  ):
    """Starts at a state, of which only counters are read; `saved` returns the
    step of the last checkpoint, None if there is none."""
    self._saved = saved
    self.stopwatch = Stopwatch()
    self._start = int(state.step)
    self.progress = Progress(loop, self._start)
    self._config, self._loop, self._writer = config, loop, writer
    self._means = metrics.StepMeans()
    self._skipped_in_row = int(state.skipped_in_row)
    # Images and seconds at the last measurement of images/s, and its result.
    self._measured, self._rate = (0, 0.0), None

  def add(self, result: Result) -> None:
    """Adds the metrics of a dispatch, after waiting for them.

    Raises:
      Diverged: too many consecutive steps were skipped.
    """
    first, count = result.first, result.count
    host = {k: v[:count] for k, v in devices.read_one(result.history).items()}
    # The first dispatch also loads the program, so that it is not measured.
    if first != self._start:
      self.stopwatch.images += count * self._loop.batch_size
    self._measure_rate()
    every = self._config.train.log_every_steps
    begin = 0
    while begin < count:
      end = min(count, begin + every - (first + begin) % every)
      self._means.add({k: v[begin:end] for k, v in host.items()})
      begin = end
      if (first + end) % every == 0:
        self.flush(first + end)
    self._check(first, host)

  def flush(self, step: int) -> None:
    """Writes a row of the means since the last one, if there was a step."""
    row = self._means.result()
    if not row:
      return
    if self._rate is not None:
      row["images_per_second"] = self._rate
    row["epoch"] = self._loop.epoch(step)
    self._writer.row(step, "train", row)
    name = "neg_elbo" if "neg_elbo" in row else "loss"
    if row[name] is not None:
      self.progress.value(f"{name} {row[name]:.2f}")

  def _measure_rate(self) -> None:
    images, seconds = self.stopwatch.images, self.stopwatch.seconds
    # The results of several dispatches may arrive at once, so that a short
    # time says nothing about their speed.
    if images and seconds - self._measured[1] >= _RATE_SECONDS:
      before, since = self._measured
      self._rate = (images - before) / (seconds - since)
      self._measured = (images, seconds)

  def _check(self, first: int, host: dict[str, np.ndarray]) -> None:
    for offset, skipped in enumerate(host["skipped"]):
      self._skipped_in_row = self._skipped_in_row + 1 if skipped else 0
      if self._skipped_in_row < self._config.train.max_skips_in_row:
        continue
      self.flush(first + len(host["skipped"]))
      values = {k: float(v[offset]) for k, v in host.items()}
      cause, advice = _cause(self._config.optim, values)
      saved = self._saved()
      before = f"; step {saved}, from before them, is saved" if saved else ""
      raise Diverged(
        f"{self._skipped_in_row} steps in a row were skipped, the last one "
        f"step {first + offset + 1} ({cause}){before}. {advice}"
      )


def _cause(optim: ConfigDict, values: dict[str, float]) -> tuple[str, str]:
  """Returns why a step with these metrics was skipped, and what may help."""
  broken = [k for k, v in values.items() if not np.isfinite(v)]
  if broken:
    return (
      f"not finite: {', '.join(broken)}",
      "A lower config.optim.learning_rate, config.optim.clip_norm or a longer "
      "config.optim.warmup_steps may help.",
    )
  limit = optim.skip_norm
  return (
    f"gradient norm {values['grad_norm']:.3g} above config.optim.skip_norm, "
    f"{limit}",
    "config.optim.skip_norm skipped them: a higher one lets such steps pass, "
    "config.optim.clip_norm takes them shorter.",
  )


def log_last_validation(workdir: str) -> None:
  """Logs the terms of a run's last validation."""
  rows = [r for r in read_rows(workdir) if r["split"] == "validation"]
  for row in rows[-1:]:
    terms = ", ".join(
      f"{k} {row[k]:.3f}"
      for k in ("loss", "neg_elbo", "distortion", "rate")
      if row.get(k) is not None
    )
    logging.info("Step %d, validation: %s", row["step"], terms)
