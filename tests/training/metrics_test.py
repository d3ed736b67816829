"""Means, bits per dimension and the rows on disk."""

import json
import math
import os

import numpy as np
import pytest

from vae_jax.training import metrics
from vae_jax.training import writer as writer_lib


def test_bits_per_dim_by_hand():
  assert metrics.bits_per_dim(
    784 * math.log(2), 784, is_density=False
  ) == pytest.approx(1)
  # A uniform density on [0, 1] is a uniform choice among 255 grey levels.
  assert metrics.bits_per_dim(0.0, 12, is_density=True) == pytest.approx(
    math.log2(255)
  )
  # With noise between 256 levels it is one among those: exactly 8 bits.
  assert metrics.bits_per_dim(
    0.0, 12, is_density=True, dequantized=True
  ) == pytest.approx(8)


def test_masked_means_weigh_examples_not_batches():
  means = metrics.MaskedMeans()
  means.add({"loss": np.asarray(30.0), "count": np.asarray(3.0)})
  means.add({"loss": np.asarray(2.0), "count": np.asarray(1.0)})
  assert means.result() == {"loss": 8.0, "num_examples": 4}


def test_step_means_leave_skipped_steps_out():
  means = metrics.StepMeans()
  means.add({"loss": np.array([1.0, np.nan]), "skipped": np.array([0, 1])})
  means.add({"loss": np.array([3.0]), "skipped": np.array([0])})
  assert means.result() == {"loss": 2.0, "skipped": 1, "steps": 3}
  assert means.result() == {}
  means.add({"loss": np.array([np.inf]), "skipped": np.array([1])})
  assert means.result() == {"loss": None, "skipped": 1, "steps": 1}


def test_rows_after_the_resumed_step_and_half_lines_go(tmp_path):
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
    # The events have their own.
    if os.path.samestat(os.fstat(number), rows.stat()):
      on_disk.append(rows.read_text())

  monkeypatch.setattr(os, "fsync", fsync)
  writer.row(1, "train", {"loss": 1.0})
  assert on_disk == []
  writer.flush()
  writer.close()
  assert on_disk == ['{"step": 1, "split": "train", "loss": 1.0}\n']


def test_what_is_not_finite_becomes_null(tmp_path):
  writer = writer_lib.WorkdirWriter(tmp_path, step=0)
  writer.row(1, "validation", {"loss": math.nan, "rate": 1.0, "n": 3})
  writer.close()
  (row,) = writer_lib.read_rows(tmp_path)
  assert row["loss"] is None and row["rate"] == 1.0 and row["n"] == 3
