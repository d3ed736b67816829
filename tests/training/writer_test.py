"""Rows on the disk, and after a restart."""

import io
import json
import math
import os
import struct

from tensorboardX.proto import event_pb2

from vae_jax.training import writer as writer_lib


def open_run(folder, steps=(1, 2, 3), **options):
  """Returns a writer with a row for each step."""
  writer = writer_lib.WorkdirWriter(str(folder), **{"step": 0} | options)
  for step in steps:
    writer.row(step, "train", {"loss": float(step), "none": None})
  return writer


def assert_resumes(folder):
  """Checks the rows after a row is repeated."""
  writer = open_run(folder, (), step=2)
  writer.row(3, "train", {"loss": 30.0})
  writer.close()
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [(r["step"], r["loss"]) for r in rows] == [(1, 1), (2, 2), (3, 30)]
  assert writer_lib.read_rows(str(folder)) == rows


def test_rows_after_the_resumed_step_and_cut_lines_are_removed(tmp_path):
  open_run(tmp_path).close()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4, "spl')
  assert_resumes(tmp_path)


def test_flushed_rows_are_on_the_disk(tmp_path, monkeypatch):
  writer = open_run(tmp_path, ())
  on_disk = []
  rows = tmp_path / "metrics.jsonl"

  def fsync(number):
    # The events are flushed, too.
    if os.path.samestat(os.fstat(number), rows.stat()):
      on_disk.append(rows.read_text())

  monkeypatch.setattr(os, "fsync", fsync)
  writer.row(1, "train", {"loss": 1.0})
  assert on_disk == []
  writer.flush()
  writer.close()
  assert on_disk == ['{"step": 1, "split": "train", "loss": 1.0}\n']


def test_values_not_finite_become_null(tmp_path):
  writer = open_run(tmp_path, ())
  writer.row(1, "validation", {"loss": math.nan, "rate": 1.0, "n": 3})
  writer.close()
  (row,) = writer_lib.read_rows(tmp_path)
  assert row["loss"] is None and row["rate"] == 1.0 and row["n"] == 3


def test_remote_rows_and_events_appear_at_each_flush(any_address):
  writer = open_run(any_address)
  assert writer_lib.read_rows(str(any_address)) == []
  writer.flush()
  steps = [r["step"] for r in writer_lib.read_rows(str(any_address))]
  assert steps == [1, 2, 3]
  writer.row(4, "train", {"loss": 4.0})
  writer.close()
  assert len(writer_lib.read_rows(str(any_address))) == 4
  (events,) = (any_address / "tensorboard").glob("*tfevents*")
  assert b"train/loss" in events.read_bytes()
  assert_resumes(any_address)
  assert len(list((any_address / "tensorboard").glob("*"))) == 2


def _scalars(folder):
  """Returns the steps of each file of events."""
  steps = []
  for path in folder.glob("*"):
    content, written = io.BytesIO(path.read_bytes()), []
    while header := content.read(12):
      event = event_pb2.Event.FromString(
        content.read(struct.unpack("<Q", header[:8])[0])
      )
      content.read(4)
      written += [event.step] * len(event.summary.value)
    steps.append(written)
  return sorted(steps)


def test_large_event_files_are_not_uploaded_again(address):
  def write(folder, **options):
    writer = open_run(folder, (), **options)
    for step in range(4):
      writer.row(step, "train", {"loss": float(step)})
      if step % 2:
        writer.flush()
    writer.close()
    return _scalars(folder / "tensorboard")

  assert write(address / "one") == [[0, 1, 2, 3]]
  assert write(address / "two", max_event_bytes=100) == [[0, 1], [2, 3]]


def test_foreign_lines_are_left_out(tmp_path):
  row = b'{"step": 1, "split": "train", "loss": 2.0}\n'
  (tmp_path / "metrics.jsonl").write_bytes(row + b'3\n{"a": 1}\n\xff\xfe')
  assert writer_lib.read_rows(tmp_path) == [
    {"step": 1, "split": "train", "loss": 2.0}
  ]
