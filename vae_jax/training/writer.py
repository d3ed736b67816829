"""Rows of metrics: `metrics.jsonl` and TensorBoard events of a workdir."""

import contextlib
import io
import json
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import tensorboardX
from absl import logging

from vae_jax.runtime import staging, storage
from vae_jax.training import metrics

# Bytes of events after which an object store gets another file of them.
_LARGEST_EVENTS = 1 << 24


def read_rows(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the rows of `metrics.jsonl`, without lines that are cut short."""
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


class Writer:
  """Discards rows and images, in all processes but the first."""

  def row(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Writes one row of a split's values; null for values not finite."""

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows an image uint8 [h w c] in TensorBoard."""

  def flush(self) -> None:
    """Writes all rows so far to the disk or the object store."""

  def close(self) -> None:
    """Flushes, and closes the files."""


class WorkdirWriter(Writer):
  """Writes rows and images to a workdir.

  An object store cannot append to a file. There, `flush` replaces both files,
  and rows after the last flush are lost with the process.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, step: int):
    """Opens both files and removes rows after `step`, which belong to steps
    that will be repeated."""
    self._folder = storage.path(workdir)
    path = self._folder / "metrics.jsonl"
    rows = [r for r in read_rows(workdir) if r["step"] <= step]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    storage.write_bytes(path, text.encode())
    # For a store: local folder of new events; uploaded events and their name.
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
      # The name has the second only; another start's upload would replace it.
      filename_suffix=f".{uuid.uuid4().hex[:8]}",
      **options,
    )

  def row(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Writes one row of a split's values; null for values not finite."""
    values = metrics.finite(values)
    row = {"step": step, "split": split, **values}
    self._file.write(json.dumps(row, allow_nan=False) + "\n")
    for name, value in values.items():
      if value is not None:
        self._tensorboard.add_scalar(f"{split}/{name}", value, step)

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows an image uint8 [h w c] in TensorBoard."""
    self._tensorboard.add_image(name, image, step, dataformats="HWC")

  def flush(self) -> None:
    """Writes all rows so far to the disk or the object store."""
    if self._events is None:
      storage.flush(self._file)
      return
    # Its own flush leaves out events that are still in its queue.
    self._tensorboard.close()
    self._upload()
    self._open_events()

  def _upload(self) -> None:
    # Rows first, because events repeat them.
    storage.write_bytes(
      self._folder / "metrics.jsonl", self._file.getvalue().encode()
    )
    files = sorted(pathlib.Path(self._events).iterdir())
    # There are none after an upload that failed.
    if files and len(self._sent) > _LARGEST_EVENTS:
      self._sent, self._name = b"", ""
    self._name = self._name or files[0].name
    # An event file is a sequence of records, and so are two files in a row.
    self._sent += b"".join(file.read_bytes() for file in files)
    for file in files:
      file.unlink()
    storage.write_bytes(self._folder / "tensorboard" / self._name, self._sent)

  def close(self) -> None:
    """Flushes, and closes the files."""
    with self._stack:
      self._tensorboard.close()
      if self._events is not None:
        self._upload()
