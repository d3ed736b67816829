"""Means over examples, the only nats -> bits/dim, and the writers."""

import contextlib
import io
import json
import math
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import tensorboardX
from absl import logging

from vae_jax.runtime import staging, storage

# Bytes of events after which a store gets another file of them.
_LARGEST_EVENTS = 1 << 24


def bits_per_dim(
  nats: float, dims: int, *, is_density: bool, dequantized: bool = False
) -> float:
  """Returns nats per image as bits per pixel and channel.

  A probability of pixel values gives nats / (dims ln 2). A density of pixels
  in [0, 1] is first expressed per grey level (x 1/255), which adds ln 255
  nats per dimension: comparable in size with a probability, but only an
  approximation of one, and no bound. Where uniform noise fills the gaps
  between the 256 levels, ln 256 is added instead, and then it is a bound on
  the bits of a probability; see `distributions.Dequantized`.

  Args:
    nats: -log p of an image, or a bound on it.
    dims: height x width x channels.
    is_density: whether p is a density of pixels in [0, 1].
    dequantized: whether it is the density of (image + noise) / 256.
  """
  levels = (256 if dequantized else 255) if is_density else 1
  return (nats / dims + math.log(levels)) / math.log(2)


class StepMeans:
  """Means over optimiser steps of what each step reported.

  A skipped step is counted under "skipped" and left out of the other means,
  which may be nan in it.
  """

  def __init__(self):
    self._steps: list[dict[str, np.ndarray]] = []

  def add(self, metrics: Mapping[str, np.ndarray]) -> None:
    """Takes per-step values [n] by name."""
    self._steps.append({k: np.asarray(v) for k, v in metrics.items()})

  def result(self) -> dict[str, float | None]:
    """Returns the means since the last call, None where no step counted, and
    "steps", the number of steps that they are of."""
    joined = {
      k: np.concatenate([s[k] for s in self._steps]).astype(np.float64)
      for k in (self._steps[0] if self._steps else {})
    }
    self._steps = []
    taken = joined.get("skipped", np.zeros(0)) == 0
    row: dict[str, float | None] = {}
    for name, values in joined.items():
      if name == "skipped":
        row[name] = int(values.sum())
      else:
        row[name] = float(values[taken].mean()) if taken.any() else math.nan
    if joined:
      row["steps"] = len(next(iter(joined.values())))
    return finite(row)


class MaskedMeans:
  """Means over examples, each counted once, from sums over batches."""

  def __init__(self):
    self._sums: dict[str, float] = {}

  def add(self, sums: Mapping[str, np.ndarray]) -> None:
    """Takes sums over a batch's examples by name, their number as "count"."""
    for name, value in sums.items():
      # Python floats: the sum over many batches is in float64.
      self._sums[name] = self._sums.get(name, 0.0) + float(value)

  def result(self) -> dict[str, float]:
    """Returns the means by name, and "num_examples"."""
    count = self._sums["count"]
    means = {k: v / count for k, v in self._sums.items() if k != "count"}
    return {**means, "num_examples": int(count)}


def read_rows(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the rows of `metrics.jsonl`; a line cut short is left out."""
  path = storage.path(workdir) / "metrics.jsonl"
  with storage.using(path):
    text = path.read_text() if path.exists() else ""
  rows = []
  for line in text.splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      logging.warning("%s: dropping the unreadable line %r", path, line[:60])
  return rows


def finite(values: Any) -> Any:
  """Returns a tree of dicts and lists with None for nan and infinities, which
  JSON lacks."""
  if isinstance(values, Mapping):
    return {k: finite(v) for k, v in values.items()}
  if isinstance(values, list | tuple):
    return [finite(v) for v in values]
  if isinstance(values, float) and not math.isfinite(values):
    return None
  return values


class Writer:
  """Writes rows to `metrics.jsonl` and `tensorboard/` of a workdir.

  At the end of a `with` it is closed; if that fails while another error ends
  the block, that other one goes on. Nothing can be appended to what an object store holds: there, `flush` puts
  both, whole, and what came after the last one is lost with the process.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, step: int):
    """Opens both; rows after `step`, of a run that is gone, are removed."""
    self._folder = storage.path(workdir)
    path = self._folder / "metrics.jsonl"
    rows = [r for r in read_rows(workdir) if r["step"] <= step]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    storage.write_bytes(path, text.encode())
    # For a store: folder of events not put yet, and those put under a name.
    self._events: str | None = None
    self._stack = contextlib.ExitStack()
    self._sent, self._name = b"", ""
    self._file: TextIO
    if storage.is_remote(self._folder):
      self._events = str(self._stack.enter_context(staging.scratch()))
      self._file = io.StringIO()
      self._file.write(text)
    else:
      self._file = self._stack.enter_context(path.open("a", buffering=1))
    self._open_events(purge_step=step + 1)

  def _open_events(self, **options: int) -> None:
    self._tensorboard = tensorboardX.SummaryWriter(
      self._events or str(self._folder / "tensorboard"),
      # The name is of the second alone: a put would replace another start's.
      filename_suffix=f".{uuid.uuid4().hex[:8]}",
      **options,
    )

  def row(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Writes one row of a split's values; null for what is not finite."""
    values = finite(values)
    row = {"step": step, "split": split, **values}
    self._file.write(json.dumps(row, allow_nan=False) + "\n")
    for name, value in values.items():
      if value is not None:
        self._tensorboard.add_scalar(f"{split}/{name}", value, step)

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows a picture uint8 [h w c] in TensorBoard."""
    self._tensorboard.add_image(name, image, step, dataformats="HWC")

  def flush(self) -> None:
    """Puts what was written so far on the disk, or into the object store."""
    if self._events is None:
      storage.flush(self._file)
      return
    # Its own flush leaves out what is still in its queue.
    self._tensorboard.close()
    self._put()
    self._open_events()

  def _put(self) -> None:
    # Rows first: events only show them again.
    storage.write_bytes(
      self._folder / "metrics.jsonl", self._file.getvalue().encode()
    )
    parts = sorted(pathlib.Path(self._events).iterdir())
    # There are none where the last put failed.
    if parts and len(self._sent) > _LARGEST_EVENTS:
      # Not put again and again: the next ones go to another file.
      self._sent, self._name = b"", ""
    self._name = self._name or parts[0].name
    # Such files are records one after another, and so are two in a row.
    self._sent += b"".join(part.read_bytes() for part in parts)
    for part in parts:
      part.unlink()
    storage.write_bytes(self._folder / "tensorboard" / self._name, self._sent)

  def close(self) -> None:
    """Writes out what is buffered."""
    with self._stack:
      self._tensorboard.close()
      if self._events is not None:
        self._put()

  def __enter__(self) -> "Writer":
    return self

  def __exit__(
    self, kind: Any, error: BaseException | None, trace: Any
  ) -> None:
    try:
      self.close()
    except Exception as own:  # Clients of object stores have no common base.
      if error is None:
        raise
      logging.warning("The last rows could not be written (%s).", own)


class Silent(Writer):
  """Writes nothing: of the processes of a job the first one alone writes."""

  def __init__(self):
    pass

  def row(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Does nothing."""

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Does nothing."""

  def flush(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""
