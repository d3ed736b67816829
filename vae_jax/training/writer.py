"""Rows of metrics: `metrics.jsonl` and TensorBoard events of a workdir."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from vae_jax.runtime import storage
from vae_jax.training import events, metrics


def read_rows(workdir: storage.PathLike) -> list[dict[str, Any]]:
  """Returns the rows of `metrics.jsonl`, without lines that are cut short."""
  path = storage.path(workdir) / "metrics.jsonl"
  with storage.using(path):
    text = path.read_bytes() if path.exists() else b""
  rows = []
  for line in text.decode(errors="replace").splitlines():
    try:
      row = json.loads(line)
      rows.append({"step": row["step"], "split": row["split"], **row})
    except (ValueError, KeyError, TypeError):
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
  and rows after the last flush are lost with the process. In a folder each row
  is written at once: no thread and no buffer can lose the error of a full disk.
  """

  def __init__(
    self,
    workdir: storage.PathLike,
    *,
    step: int,
    max_event_bytes: int = 1 << 24,
  ):
    """Opens both files.

    Rows after `step`, the last one, belong to steps that will be repeated, and
    are removed. For `max_event_bytes` see `events.Events`.
    """
    folder = storage.path(workdir)
    self._path = folder / "metrics.jsonl"
    rows = [r for r in read_rows(workdir) if r["step"] <= step]
    self._content = bytearray(_lines(rows))
    storage.write_bytes(self._path, bytes(self._content))
    with contextlib.ExitStack() as stack:
      self._file: storage.Appending | None = None
      if not storage.is_remote(folder):
        self._file = storage.Appending(self._path)
        stack.callback(self._file.close)
      self._events = events.Events(
        folder / "tensorboard", purge_step=step + 1, max_bytes=max_event_bytes
      )
      stack.callback(self._events.close)
      self._stack = stack.pop_all()

  def row(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Writes one row of a split's values; null for values not finite."""
    values = metrics.finite(values)
    line = _lines([{"step": step, "split": split, **values}])
    if self._file is not None:
      self._file.write(line)
    else:
      self._content += line
    self._events.scalars(
      step, {f"{split}/{k}": v for k, v in values.items() if v is not None}
    )

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Shows an image uint8 [h w c] in TensorBoard."""
    self._events.image(step, name, image)

  def flush(self) -> None:
    """Writes all rows so far to the disk or the object store."""
    if self._file is not None:
      self._file.sync()
    else:
      # Rows first, because events repeat them.
      storage.write_bytes(self._path, bytes(self._content))
    self._events.flush()

  def close(self) -> None:
    """Flushes, and closes the files."""
    with self._stack:
      if self._file is None:
        self.flush()


def _lines(rows: list[dict[str, Any]]) -> bytes:
  return b"".join(
    json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows
  )
