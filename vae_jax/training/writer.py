"""Rows of metrics: `metrics.jsonl` and TensorBoard events of a workdir."""

import contextlib
import io
import json
import os
import uuid
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np
import tensorboardX
from absl import logging
from tensorboardX import record_writer

from vae_jax.runtime import storage
from vae_jax.training import metrics


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


class EventFiles:
  """Files of TensorBoard events at an address, for tensorboardX.

  It keeps one file in memory, because an object store cannot append to it, and
  writes it when `upload` is called, because tensorboardX would lose the errors
  of a background thread. So `flush` and `close` do nothing.
  """

  def __init__(self, scheme: str, *, max_bytes: int):
    """Registers itself for the addresses of a scheme, such as "gs".

    An uploaded file above `max_bytes` is followed by another one.
    """
    self._max_bytes = max_bytes
    self._path, self._content, self._is_uploaded = "", bytearray(), True
    record_writer.register_writer_factory(scheme, self)

  def flush(self, *folder: str) -> None:
    """Does nothing."""

  # Object stores have no folders.
  close = directory_check = flush

  def open(self, path: str) -> "EventFiles":
    """Starts a file, or continues the one before, whose name it keeps."""
    is_full = self._is_uploaded and len(self._content) > self._max_bytes
    if is_full or not self._path:
      self._path, self._content = path, bytearray()
    return self

  def write(self, records: bytes) -> None:
    """Appends records of events."""
    self._content += records
    self._is_uploaded = False

  def upload(self) -> None:
    """Writes the current file."""
    storage.write_bytes(self._path, bytes(self._content))
    self._is_uploaded = True


class WorkdirWriter(Writer):
  """Writes rows and images to a workdir.

  An object store cannot append to a file. There, `flush` replaces both files,
  and rows after the last flush are lost with the process.
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
    are removed. For `max_event_bytes` see `EventFiles`.
    """
    self._folder = storage.path(workdir)
    path = self._folder / "metrics.jsonl"
    rows = [r for r in read_rows(workdir) if r["step"] <= step]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    storage.write_bytes(path, text.encode())
    self._events: EventFiles | None = None
    self._stack = contextlib.ExitStack()
    self._file: TextIO
    if storage.is_remote(self._folder):
      scheme = os.fspath(self._folder).partition(":")[0]
      self._events = EventFiles(scheme, max_bytes=max_event_bytes)
      self._file = io.StringIO()
      self._file.write(text)
    else:
      self._file = self._stack.enter_context(path.open("a", buffering=1))
    self._open_events(purge_step=step + 1)

  def _open_events(self, **options: int) -> None:
    self._tensorboard = tensorboardX.SummaryWriter(
      os.fspath(self._folder / "tensorboard"),
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
    try:
      self._upload()
    finally:
      self._open_events()

  def _upload(self) -> None:
    # Rows first, because events repeat them.
    storage.write_bytes(
      self._folder / "metrics.jsonl", self._file.getvalue().encode()
    )
    self._events.upload()

  def close(self) -> None:
    """Flushes, and closes the files."""
    with self._stack:
      self._tensorboard.close()
      if self._events is not None:
        self._upload()
