"""Rows on the disk, and after a restart."""

import json
import math
import os

from vae_jax.training import writer as writer_lib


def test_rows_after_the_resumed_step_and_cut_lines_are_removed(tmp_path):
  writer = writer_lib.WorkdirWriter(tmp_path, step=0)
  for step in (1, 2, 3):
    writer.row(step, "train", {"loss": float(step), "none": None})
  writer.close()
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 4, "spl')
  writer = writer_lib.WorkdirWriter(tmp_path, step=2)
  writer.row(3, "train", {"loss": 30.0})
  writer.close()
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [(r["step"], r["loss"]) for r in rows] == [(1, 1), (2, 2), (3, 30)]
  assert writer_lib.read_rows(tmp_path) == rows


def test_flushed_rows_are_on_the_disk(tmp_path, monkeypatch):
  writer = writer_lib.WorkdirWriter(tmp_path, step=0)
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
  writer = writer_lib.WorkdirWriter(tmp_path, step=0)
  writer.row(1, "validation", {"loss": math.nan, "rate": 1.0, "n": 3})
  writer.close()
  (row,) = writer_lib.read_rows(tmp_path)
  assert row["loss"] is None and row["rate"] == 1.0 and row["n"] == 3
