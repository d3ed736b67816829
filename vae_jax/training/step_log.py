"""What training steps report becomes rows, and a run that diverges stops."""

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax.runtime import devices
from vae_jax.training import metrics
from vae_jax.training import progress as progress_lib


class Diverged(Exception):
  """Too many steps in a row were skipped; says which and why."""

  exit_code = 3
  # All processes of a job end so at the same step.
  together = True


class StepLog:
  """Turns what steps report into rows, and stops a run that diverges."""

  def __init__(
    self,
    config: ConfigDict,
    writer: metrics.Writer,
    watch: progress_lib.Stopwatch,
    bar: progress_lib.Progress,
    *,
    steps_per_epoch: float,
    skipped_in_row: int,
  ):
    """Starts after `skipped_in_row` steps that were skipped just before."""
    self._config, self._writer = config, writer
    self._watch, self._bar = watch, bar
    self._epoch = steps_per_epoch
    self._means = metrics.StepMeans()
    self._since = (0, 0.0)
    self._in_row = skipped_in_row

  def add(self, first: int, count: int, history: dict[str, jax.Array]) -> None:
    """Takes the history of a dispatch, waiting until it is computed."""
    host = {k: v[:count] for k, v in devices.read_one(history).items()}
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
    images, seconds = self._watch.images, self._watch.seconds
    if seconds > self._since[1] and images > self._since[0]:
      row["images_per_second"] = (images - self._since[0]) / (
        seconds - self._since[1]
      )
    self._since = (images, seconds)
    row["epoch"] = step / self._epoch
    self._writer.row(step, "train", row)
    name = "neg_elbo" if "neg_elbo" in row else "loss"
    if row[name] is not None:
      self._bar.value(f"{name} {row[name]:.2f}")

  def _check(self, first: int, host: dict[str, np.ndarray]) -> None:
    for offset, skipped in enumerate(host["skipped"]):
      self._in_row = self._in_row + 1 if skipped else 0
      if self._in_row < self._config.train.max_skips_in_row:
        continue
      now = {k: float(v[offset]) for k, v in host.items()}
      broken = [k for k, v in now.items() if not np.isfinite(v)]
      cause = (
        f"not finite: {', '.join(broken)}"
        if broken
        else f"gradient norm {now['grad_norm']:.3g} above config.optim."
        f"skip_norm, {self._config.optim.skip_norm}"
      )
      self.flush(first + len(host["skipped"]))
      raise Diverged(
        f"{self._in_row} steps in a row were skipped, the last one step "
        f"{first + offset + 1} ({cause}); the last checkpoint is from before "
        "them. A lower config.optim.learning_rate, config.optim.clip_norm or "
        "a longer config.optim.warmup_steps may help."
      )
