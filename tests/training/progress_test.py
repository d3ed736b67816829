"""Rows, speed and the progress line, on a clock that tests set."""

import json
import types

import numpy as np
import pytest

from tests.support.tiny import tiny_config
from vae_jax.runtime import devices
from vae_jax.training import loop as loop_lib
from vae_jax.training import progress
from vae_jax.training import writer as writer_lib
from vae_jax.training.state import TrainState

# 100 steps of 10 images, 4 to an epoch.
LOOP = loop_lib.Loop(100, 10, 4.0, 5, 50, 50)


@pytest.fixture
def clock(monkeypatch):
  """Returns a clock; its `now` is the time of `progress`, in seconds."""
  clock = types.SimpleNamespace(now=1000.0)
  fake = types.SimpleNamespace(monotonic=lambda: clock.now)
  monkeypatch.setattr(progress, "time", fake)
  return clock


class Rows(writer_lib.Writer):
  """Keeps rows in a list."""

  def __init__(self):
    self.rows = []

  def row(self, step, split, values):
    self.rows.append((step, split, dict(values)))


def _state(step, skipped_in_row=0):
  return TrainState(step, {}, {}, (), None, 0, skipped_in_row)


@pytest.fixture
def log(clock):
  """Returns a log with a row for each step, and its writer."""
  config = tiny_config("", train__log_every_steps=1)
  writer = Rows()
  return progress.StepLog(config, LOOP, writer, _state(0)), writer


def _add(log, first, count):
  """Adds the result of a dispatch."""
  history = {"loss": np.ones(5, np.float32), "skipped": np.zeros(5, np.int32)}
  history = devices.replicate(history)
  log[0].add(loop_lib.Result(first, count, history, None))


def test_rows_have_no_speed_before_it_is_measured(log, clock):
  _, writer = log
  # The first dispatch is not measured; the next two arrive almost at once.
  for first in (0, 5, 10):
    _add(log, first, 5)
    clock.now += 0.001
  assert len(writer.rows) == 15
  assert not any("images_per_second" in row for _, _, row in writer.rows)
  # 15 steps of 10 images in 2 seconds.
  clock.now += 1.997
  _add(log, 15, 5)
  speeds = [row["images_per_second"] for _, _, row in writer.rows[15:]]
  assert speeds == pytest.approx([75.0] * 5)
  # A dispatch that arrives soon after keeps the last measurement.
  clock.now += 0.1
  _add(log, 20, 5)
  assert writer.rows[-1][2]["images_per_second"] == pytest.approx(75.0)
  clock.now += 0.9
  _add(log, 25, 5)
  assert writer.rows[-1][2]["images_per_second"] == pytest.approx(100.0)


def test_short_run_reports_no_speed(reference):
  folder, _ = reference
  rows = writer_lib.read_rows(folder)
  assert rows
  speeds = [r["images_per_second"] for r in rows if "images_per_second" in r]
  # 20 steps of 16 images: no row of a fast run may exceed one second's images.
  assert all(speed <= 20 * 16 for speed in speeds)


def test_pauses_are_left_out_and_waiting_is_counted(clock):
  stopwatch = progress.Stopwatch()
  with stopwatch.paused():
    clock.now += 7

  def items():
    for item in range(3):
      clock.now += 2
      yield item

  for _ in stopwatch.waiting_for(items()):
    clock.now += 1
  assert stopwatch.seconds == 3 * (2 + 1)
  assert stopwatch.waited == 3 * 2


def test_progress_line_has_no_empty_value(clock, caplog):
  caplog.set_level("INFO", "absl")
  bar = progress.Progress(LOOP, 0)
  clock.now += 40
  bar.update(10)
  assert caplog.messages[-1] == ("step 10/100, epoch 2.5, 2 img/s, 06:00 left")
  bar.value("neg_elbo 3.00")
  clock.now += 40
  bar.update(20)
  line = "step 20/100, epoch 5.0, 2 img/s, 05:20 left, neg_elbo 3.00"
  assert caplog.messages[-1] == line
  clock.now += 1
  bar.update(21)
  assert len(caplog.messages) == 2
  bar.close()


def test_consecutive_skipped_steps_stop_the_run(clock):
  config = tiny_config("", train__max_skips_in_row=3)
  writer = Rows()
  step_log = progress.StepLog(config, LOOP, writer, _state(4, skipped_in_row=1))
  history = {
    "loss": np.array([np.nan, np.nan, 1, 1, 1], np.float32),
    "grad_norm": np.ones(5, np.float32),
    "skipped": np.array([1, 1, 0, 0, 0], np.int32),
  }
  result = loop_lib.Result(4, 2, devices.replicate(history), None)
  with pytest.raises(
    progress.Diverged, match="step 6 .not finite: loss"
  ) as end:
    step_log.add(result)
  # There is no checkpoint.
  assert "saved" not in str(end.value) and "learning_rate" in str(end.value)
  step, _, row = writer.rows[-1]
  assert step == 6 and json.dumps(row) and row["skipped"] == 1


def test_advice_names_what_skipped_the_steps(clock):
  config = tiny_config("", train__max_skips_in_row=1, optim__skip_norm=0.5)
  step_log = progress.StepLog(config, LOOP, Rows(), _state(4), lambda: 3)
  history = {
    name: np.ones(5, np.float32) for name in ("loss", "grad_norm", "skipped")
  }
  with pytest.raises(progress.Diverged) as end:
    step_log.add(loop_lib.Result(4, 1, devices.replicate(history), None))
  assert str(end.value) == (
    "1 steps in a row were skipped, the last one step 5 (gradient norm 1 above "
    "config.optim.skip_norm, 0.5); step 3, from before them, is saved. "
    "config.optim.skip_norm skipped them: a higher one lets such steps pass, "
    "config.optim.clip_norm takes them shorter."
  )
