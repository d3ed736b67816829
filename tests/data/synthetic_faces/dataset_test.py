"""The data set of drawn faces: stored once, complete, by any process."""

import io
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal
from PIL import Image

from vae_jax.data.synthetic_faces import dataset, drawing, factors
from vae_jax.runtime import logs

_ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def prepared(faces_dir):
  return faces_dir, dataset.prepare(faces_dir, "tiny")


def test_tfds_reads_the_stored_examples(prepared):
  directory, _ = prepared
  builder = tfds.builder("synthetic_faces/tiny", data_dir=directory)
  assert builder.name == "synthetic_faces"
  assert str(builder.version) == "1.0.0"
  for split, size in {"train": 64, "validation": 32, "test": 32}.items():
    source = builder.as_data_source(split)
    undecoded = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    assert len(source) == size
    for index in (0, size - 1):
      example = source[index]
      drawn = factors.sample_factors(split, index)
      assert example["factors"] == drawn
      assert example["attributes"] == factors.attributes(drawn)
      # The stored factors give the stored image, which any reader decodes.
      again = drawing.draw(example["factors"])
      assert_array_equal(example["image"], again)
      content = io.BytesIO(undecoded[index]["image"])
      assert_array_equal(np.asarray(Image.open(content)), again)


def test_second_prepare_writes_nothing(prepared):
  directory, builder = prepared
  before = _files(builder)
  again = dataset.prepare(directory, "tiny")
  assert again.data_dir == builder.data_dir
  assert _files(again) == before


def _files(builder):
  paths = sorted(pathlib.Path(builder.data_dir).iterdir())
  return [(path.name, path.stat().st_mtime_ns) for path in paths]


def test_prepare_prints_one_progress_bar(tmp_path, capfd, monkeypatch):
  monkeypatch.setattr(logs, "is_live", lambda: True)
  dataset.prepare(tmp_path, "tiny")
  out, err = capfd.readouterr()
  assert out == ""
  lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip()]
  assert lines and all(
    line.startswith("drawing synthetic_faces") for line in lines
  )
  assert "128/128" in lines[-1] and "faces/s" in lines[-1]


_SLOW_PREPARE = """
import sys, time
from vae_jax.data.synthetic_faces import dataset, drawing, factors
png = drawing.png
def slow(factors):
  time.sleep(0.2)
  return png(factors)
drawing.png = slow
dataset.prepare(sys.argv[1], "tiny")
"""


def _leftovers(directory):
  return list(directory.glob("synthetic_faces/tiny/incomplete.*"))


def test_prepare_removes_files_of_a_killed_one(tmp_path):
  process = subprocess.Popen(
    [sys.executable, "-c", _SLOW_PREPARE, os.fspath(tmp_path)],
    env={**os.environ, "PYTHONPATH": os.fspath(_ROOT)},
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 60
  while not _leftovers(tmp_path) and time.monotonic() < deadline:
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert _leftovers(tmp_path)
  builder = dataset.prepare(tmp_path, "tiny")
  assert len(builder.as_data_source("train")) == 64
  assert not _leftovers(tmp_path)


def test_two_processes_prepare_once(tmp_path):
  context = multiprocessing.get_context("spawn")
  with context.Pool(2) as pool:
    names = pool.map(_prepared_files, [os.fspath(tmp_path)] * 2)
  assert names[0] == names[1]
  assert not _leftovers(tmp_path)


def _prepared_files(directory):
  builder = dataset.prepare(directory, "tiny")
  assert len(builder.as_data_source("test")) == 32
  return _files(builder)


def test_workers_draw_the_same_faces_or_report_a_failure(monkeypatch):
  monkeypatch.setattr(dataset, "MIN_PARALLEL", 1)
  monkeypatch.setattr(os, "cpu_count", lambda: 2)
  drawn = [factors.sample_factors("validation", index) for index in range(7)]
  pngs = list(dataset._pngs("validation", 7))
  assert pngs == list(map(drawing.png, drawn))
  monkeypatch.setattr(dataset, "WORKER", "raise SystemExit(1)")
  with pytest.raises(RuntimeError, match="has stopped"):
    list(dataset._pngs("validation", 7))


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("here", "huge"), "config is 'huge'; it must be one of"),
    (("gs://bucket/data",), "data_dir is 'gs://bucket/data'"),
  ],
)
def test_unknown_configs_and_remote_folders_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    dataset.prepare(*arguments)
