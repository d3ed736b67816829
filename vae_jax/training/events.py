"""A file of TensorBoard events, written as the events come.

tensorboardX has writers as well. They write in a thread, whose errors are lost:
on a full disk it ends, and the run waits for it without an end.

References:
  tensorflow/core/lib/io/record_writer.h, of the format; core/util/event.proto.
"""

import socket
import struct
import time
import uuid
from collections.abc import Mapping

import numpy as np
from tensorboardX import record_writer, summary
from tensorboardX.proto import event_pb2

from vae_jax.runtime import storage

_VERSION = "brain.Event:2"


class Events:
  """Writes events to a file in a folder, or at an address.

  An object store cannot append to a file. There, the file is kept in memory,
  `flush` writes it, and a file above `max_bytes` is followed by another one.
  """

  def __init__(
    self, folder: storage.Path, *, purge_step: int, max_bytes: int = 1 << 24
  ):
    """Opens a file, in which events of earlier files from `purge_step` on are
    declared void."""
    self._folder, self._max_bytes = folder, max_bytes
    self._path, self._content, self._is_flushed = (
      self._name(),
      bytearray(),
      True,
    )
    self._file: storage.Appending | None = None
    if not storage.is_remote(folder):
      self._file = storage.Appending(self._path)
    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    try:
      self._write(file_version=_VERSION)
      self._write(step=purge_step, session_log=session)
    except OSError:
      self.close()
      raise

  def _name(self) -> storage.Path:
    # The time has seconds only; another start's file would have the same name.
    number, unique = int(time.time()), uuid.uuid4().hex[:8]
    host = socket.gethostname()
    return self._folder / f"events.out.tfevents.{number}.{host}.{unique}"

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a value to each curve."""
    parts = [summary.scalar(name, value) for name, value in values.items()]
    merged = summary.Summary(value=[v for part in parts for v in part.value])
    self._write(step=step, summary=merged)

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Adds an image uint8 [h w c]."""
    shown = summary.image(name, image, dataformats="HWC")
    self._write(step=step, summary=shown)

  def _write(self, **fields: object) -> None:
    event = event_pb2.Event(wall_time=time.time(), **fields)
    record = _record(event.SerializeToString())
    if self._file is not None:
      self._file.write(record)
      return
    if self._is_flushed and len(self._content) > self._max_bytes:
      header = event_pb2.Event(wall_time=time.time(), file_version=_VERSION)
      self._path = self._name()
      self._content = bytearray(_record(header.SerializeToString()))
    self._content += record
    self._is_flushed = False

  def flush(self) -> None:
    """Writes the file of an address; that of a folder is always written."""
    if self._file is None and not self._is_flushed:
      storage.write_bytes(self._path, bytes(self._content))
      self._is_flushed = True

  def close(self) -> None:
    """Flushes, and closes the file."""
    self.flush()
    if self._file is not None:
      self._file.close()


def _record(content: bytes) -> bytes:
  """Returns a TFRecord: length and content, each with its checksum."""
  length = struct.pack("<Q", len(content))
  sums = [
    struct.pack("<I", record_writer.masked_crc32c(part))
    for part in (length, content)
  ]
  return length + sums[0] + content + sums[1]
