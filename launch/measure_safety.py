"""Measures the cost of checkpoints, rows and the watchdog.

    python launch/measure_safety.py --config=configs/faces.py --steps=2000

Trains a config for --steps steps, in turns with and without them, at the
config's own periods. Validation is left out of both. It prints, as shares of
the training time:

  standing   time in which the loop waits for calls that save and write rows
  time       additional time of the loop, with noise
  cpu        additional processor time, background threads included
  watch_cpu  processor time of the watchdog

--steps should be a multiple of config.checkpoint.every_steps, because
otherwise the last save of a run counts too much.
"""

import contextlib
import json
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from vae_jax import config as config_lib
from vae_jax.evaluate import bound, summaries
from vae_jax.runtime import devices, watchdog
from vae_jax.train import train
from vae_jax.training import checkpoint, progress, store
from vae_jax.training import writer as writer_lib

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the run.")
_STEPS = flags.DEFINE_integer(
  "steps", 2000, "Steps of each run.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Pairs of runs.", lower_bound=1)
_OUTPUT = flags.DEFINE_string(
  "output", "runs/safety.json", "File of the numbers."
)
# Methods that the loop calls, and that do nothing in a bare run.
_SAFETY = (
  (checkpoint.Checkpoints, "save"),
  (checkpoint.Checkpoints, "wait"),
  (writer_lib.WorkdirWriter, "row"),
  (writer_lib.WorkdirWriter, "flush"),
)


class Clock:
  """Seconds spent in calls: wall time, and processor time of all threads."""

  def __init__(self):
    self.wall = self.cpu = 0.0

  @contextlib.contextmanager
  def running(self) -> Iterator[None]:
    """Adds the time inside the block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    self.wall += time.perf_counter() - wall
    self.cpu += time.process_time() - cpu


def _nothing(*args: Any, **kwargs: Any) -> None:
  del args, kwargs


def timed(owner: Any, name: str, clock: Clock):
  """Adds the calls of a function inside the block to a clock."""
  original = getattr(owner, name)

  def method(*args: Any, **kwargs: Any) -> Any:
    with clock.running():
      return original(*args, **kwargs)

  return mock.patch.object(owner, name, method)


@contextlib.contextmanager
def timed_block(owner: type, clock: Clock):
  """Adds the time in `with` blocks of a class inside the block to a clock."""
  running = contextlib.ExitStack()
  leave = owner.__exit__

  def enter(self: Any) -> Any:
    running.enter_context(clock.running())
    return self

  def exit_(self: Any, *error: Any) -> None:
    running.close()
    leave(self, *error)

  with mock.patch.multiple(owner, __enter__=enter, __exit__=exit_):
    yield


def watch_seconds() -> float:
  """Returns the processor time of the watchdog's thread; 0 without one."""
  for thread in threading.enumerate():
    if thread.name == "watchdog":
      return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
  return 0.0


def one_run(config: ConfigDict, *, safe: bool) -> dict[str, float]:
  """Trains; returns seconds of the loop, in safety, and of the watchdog."""
  loop, validation, safety = Clock(), Clock(), Clock()
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    stack.enter_context(timed_block(store.Store, loop))
    stack.enter_context(timed(bound, "mean_terms", validation))
    stack.enter_context(timed(summaries, "validation", validation))
    # Without rows there is nothing to draw or to log at the end.
    ends = [(summaries, "at_the_end"), (progress, "log_last_validation")]
    for owner, name in ends if safe else [*ends, *_SAFETY]:
      stack.enter_context(mock.patch.object(owner, name, _nothing))
    for owner, name in _SAFETY if safe else ():
      stack.enter_context(timed(owner, name, safety))
    if safe:
      watchdog.start(config.watch.stall_seconds)
      stack.callback(watchdog.stop)
    train(config, folder)
    watching = watch_seconds()
  return {
    "wall": loop.wall - validation.wall,
    "cpu": loop.cpu - validation.cpu,
    "standing": safety.wall,
    "watch_cpu": watching,
  }


def shares(
  safe: list[dict[str, float]], bare: list[dict[str, float]]
) -> dict[str, float]:
  """Returns medians over the rounds of each cost, as shares of the time."""
  pairs = list(zip(safe, bare, strict=True))
  middle = statistics.median
  return {
    "standing": middle(a["standing"] / a["wall"] for a in safe),
    "time": middle(a["wall"] / b["wall"] - 1 for a, b in pairs),
    "cpu": middle(a["cpu"] / b["cpu"] - 1 for a, b in pairs),
    "watch_cpu": middle(a["watch_cpu"] / a["cpu"] for a in safe),
  }


def main(argv: list[str]) -> None:
  """Measures, prints the shares and writes the numbers."""
  del argv
  logging.set_verbosity(logging.WARNING)
  config = _CONFIG.value
  if _STEPS.value % config.checkpoint.every_steps:
    logging.warning(
      "--steps is no multiple of config.checkpoint.every_steps, %d.",
      config.checkpoint.every_steps,
    )
  config.train.num_steps, config.train.num_epochs = _STEPS.value, 0.0
  config.train.validate_every_steps = _STEPS.value + 1
  devices.initialize(config.train.compilation_cache_dir)
  safe, bare = [], []
  for number in range(_ROUNDS.value):
    # The order changes in every round, because the second run may be faster.
    for first in (True, False):
      is_safe = first == (number % 2 == 0)
      (safe if is_safe else bare).append(one_run(config, safe=is_safe))
    logging.warning("with %s, without %s", safe[-1], bare[-1])
  result = shares(safe, bare)
  output = pathlib.Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  content = {
    "config": json.loads(config_lib.to_json(config)),
    "safe": safe,
    "bare": bare,
    "shares": result,
  }
  output.write_text(json.dumps(content, indent=2) + "\n")
  for name, share in result.items():
    print(f"{name:>12}{share:>9.2%}")


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
