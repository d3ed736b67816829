"""The drawn faces: factors, attributes, pictures, and their storage."""

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
from PIL import Image

from vae_jax.data.synthetic_faces import dataset, drawing
from vae_jax.data.synthetic_faces import factors as face_factors

_ROOT = pathlib.Path(__file__).parents[2]


def _neutral(**changes):
  """A plain frontal face, lit from the front, with some factors set."""
  factors = {
    name: 0
    if isinstance(factor, face_factors.Discrete)
    else 0.5 * (factor.low + factor.high)
    for name, factor in dataset.FACTORS.items()
  }
  return {**factors, "jaw": 0.5, **changes}


def _position(factor, name):
  return dataset.FACTORS[factor].names.index(name)


@pytest.fixture(scope="module")
def samples():
  return [dataset.sample_factors("train", i) for i in range(2000)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp("data")
  return directory, dataset.prepare(directory, "tiny")


def test_factors_are_independent(samples):
  names = list(dataset.FACTORS)
  table = np.array([[sample[name] for name in names] for sample in samples])
  correlation = np.corrcoef(table, rowvar=False) - np.eye(len(names))
  # 496 pairs with standard deviation 1/sqrt(2000) = 0.022 each.
  assert np.abs(correlation).max() < 0.1
  assert abs(correlation.std() - 2000**-0.5) < 0.005


def test_factors_follow_their_distributions(samples):
  for name, factor in dataset.FACTORS.items():
    values = np.array([sample[name] for sample in samples])
    if isinstance(factor, face_factors.Discrete):
      assert sum(factor.weights) == pytest.approx(1)
      shares = np.bincount(values, minlength=len(factor.names)) / len(values)
      np.testing.assert_allclose(shares, factor.weights, atol=0.05)
    else:
      # E[u^p] = 1 / (p + 1).
      mean = factor.low + (factor.high - factor.low) / (factor.power + 1)
      assert values.mean() == pytest.approx(mean, abs=0.06)
      assert factor.low <= values.min() and values.max() <= factor.high
      assert np.array_equal(values, values.astype(np.float32))


def test_samples_are_pure_and_splits_disjoint(samples):
  assert samples[7] == dataset.sample_factors("train", 7)
  seen = {tuple(sample.values()) for sample in samples}
  for split in ("validation", "test"):
    for index in range(2000):
      seen.add(tuple(dataset.sample_factors(split, index).values()))
  assert len(seen) == 6000


@pytest.mark.parametrize(
  "split, index, message",
  [("dev", 0, "split is 'dev'"), ("train", -1, "index is -1")],
)
def test_unknown_places_are_refused(split, index, message):
  with pytest.raises(ValueError, match=message):
    dataset.sample_factors(split, index)


@pytest.mark.parametrize(
  "changes, expected",
  [
    ({"smile": 0.5}, {"Smiling": True}),
    ({"smile": 0.0}, {"Smiling": False}),
    ({"mouth_open": 0.0}, {"Mouth_Slightly_Open": False}),
    (
      {"hair_style": "bald", "hair_colour": 0.1, "bangs": "yes"},
      {"Bald": True, "Black_Hair": False, "Bangs": False},
    ),
    ({"hair_style": "bald", "hat": "cap"}, {"Bald": False}),
    (
      {"hair_style": "crop", "hair_colour": 0.9, "hair_greyness": 0.0},
      {"Blond_Hair": True, "Gray_Hair": False, "Bald": False},
    ),
    (
      {"hair_style": "crop", "hair_colour": 0.9, "hair_greyness": 0.9},
      {"Blond_Hair": False, "Gray_Hair": True},
    ),
    ({"hair_style": "curly"}, {"Wavy_Hair": True, "Straight_Hair": False}),
    ({"beard": "goatee"}, {"Goatee": True, "No_Beard": False}),
    ({"moustache": "yes"}, {"Mustache": True, "No_Beard": True}),
    ({"glasses": "sun"}, {"Eyeglasses": True}),
    ({"hat": "brim"}, {"Wearing_Hat": True}),
    ({"skin_tone": 0.0}, {"Pale_Skin": True}),
  ],
)
def test_attributes_follow_factors(changes, expected):
  changes = {
    name: _position(name, value) if isinstance(value, str) else value
    for name, value in changes.items()
  }
  found = dataset.attributes(_neutral(**changes))
  assert tuple(found) == dataset.ATTRIBUTES
  assert {name: found[name] for name in expected} == expected


def test_every_attribute_is_neither_rare_nor_constant(samples):
  table = [dataset.attributes(sample) for sample in samples]
  for name in dataset.ATTRIBUTES:
    assert 0.02 < np.mean([row[name] for row in table]) < 0.85, name


def test_drawing_is_pure():
  factors = dataset.sample_factors("test", 3)
  first = drawing.draw(factors)
  assert first.shape == (64, 64, 3) and first.dtype == np.uint8
  np.testing.assert_array_equal(first, drawing.draw(dict(factors)))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"smile": 1.5}, "factor smile is 1.5; it must be from -1.0 to 1.0"),
    ({"hat": 9}, "factor hat is 9; it must be from 0 to 3"),
    ({"wings": 1}, "wings"),
  ],
)
def test_impossible_factors_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    drawing.draw(_neutral(**changes))


@pytest.mark.parametrize("name", list(dataset.FACTORS))
def test_every_factor_changes_the_picture(name):
  hair = "side_part" if name.startswith(("hair", "bangs")) else "crop"
  base = _neutral(
    hair_style=_position("hair_style", hair),
    hat=_position("hat", "cap") if name == "hat_hue" else 0,
    hair_greyness=0.0,
    head_turn=0.1,
  )
  factor = dataset.FACTORS[name]
  if isinstance(factor, face_factors.Discrete):
    values = range(len(factor.names))
  elif name.endswith("_hue"):
    values = (0.0, 0.3, 0.6)
  else:
    values = np.linspace(factor.low, factor.high, 3).tolist()
  images = [drawing.draw({**base, name: value}).astype(int) for value in values]
  for i, first in enumerate(images):
    for second in images[:i]:
      # At least a dozen pixels, clearly.
      assert (np.abs(first - second).max(axis=2) > 12).sum() >= 12


@pytest.mark.parametrize("mouth_open", [0.0, 0.5, 1.0])
def test_smile_bends_the_mouth_and_nothing_else(mouth_open):
  base = _neutral(
    mouth_open=mouth_open,
    lipstick=1,
    lip_fullness=1.0,
    rosiness=0.0,
    skin_tone=0.2,
  )
  smiles = np.linspace(-1, 1, 9)
  images = np.stack(
    [drawing.draw({**base, "smile": s}).astype(float) for s in smiles]
  )
  changed = np.ptp(images, axis=0).max(axis=2) > 0
  rows, columns = np.nonzero(changed)
  assert rows.min() >= 36 and rows.max() <= 52
  assert columns.min() >= 19 and columns.max() <= 44
  # Lipstick is far redder than skin, teeth and mouth, so it marks the lips.
  # Their curvature: the covariance of height and squared distance from the
  # axis, positive where the corners lie above the middle.
  y, x = np.mgrid[36:53, 18:46]
  square = (x - 31.5) ** 2
  bends = []
  for image in images:
    mouth = image[36:53, 18:46]
    redness = np.clip(mouth[:, :, 0] - mouth[:, :, 1] - 55, 0, None)
    weight = redness / redness.sum()
    centred = square - (weight * square).sum()
    bends.append(-(weight * centred * y).sum())
  assert np.all(np.diff(bends) > 0), bends
  assert bends[0] < 0 < bends[-1]


def test_round_trip_through_tfds(prepared):
  directory, _ = prepared
  builder = tfds.builder("synthetic_faces/tiny", data_dir=directory)
  assert builder.name == "synthetic_faces"
  assert str(builder.version) == "1.0.0"
  sizes = {"train": 64, "validation": 32, "test": 32}
  for split, size in sizes.items():
    source = builder.as_data_source(split)
    assert len(source) == size
    for index in (0, size - 1):
      example = source[index]
      drawn = dataset.sample_factors(split, index)
      assert example["factors"] == drawn
      assert example["attributes"] == dataset.attributes(drawn)
      # The stored factors draw the stored picture.
      again = drawing.draw(example["factors"])
      np.testing.assert_array_equal(example["image"], again)


def test_pictures_can_be_read_undecoded(prepared):
  source = prepared[1].as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
  )
  image = np.asarray(Image.open(io.BytesIO(source[1]["image"])))
  factors = dataset.sample_factors("train", 1)
  np.testing.assert_array_equal(image, drawing.draw(factors))


def test_prepare_twice_writes_once(prepared):
  directory, builder = prepared
  files = sorted(pathlib.Path(builder.data_dir).iterdir())
  times = [file.stat().st_mtime_ns for file in files]
  again = dataset.prepare(directory, "tiny")
  assert again.data_dir == builder.data_dir
  assert [file.stat().st_mtime_ns for file in files] == times


def test_prepare_is_silent_but_for_one_bar(tmp_path, capfd):
  dataset.prepare(tmp_path, "tiny")
  out, err = capfd.readouterr()
  assert out == ""
  lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip()]
  assert lines
  assert all(line.startswith("Drawing synthetic_faces") for line in lines)
  assert "128/128" in lines[-1] and "faces/s" in lines[-1]


_SLOW_PREPARE = """
import sys, time
from vae_jax.data import face_drawing, synthetic_faces
draw = face_drawing.png
def slow(factors):
  time.sleep(0.2)
  return draw(factors)
face_drawing.png = slow
synthetic_faces.prepare(sys.argv[1], "tiny")
"""


def _leftovers(directory):
  return list(directory.glob("synthetic_faces/tiny/incomplete.*"))


def test_killed_prepare_is_repaired(tmp_path):
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


def test_two_at_once_share_one_result(tmp_path):
  context = multiprocessing.get_context("spawn")
  with context.Pool(2) as pool:
    names = pool.map(_prepared_files, [os.fspath(tmp_path)] * 2)
  assert names[0] == names[1]
  assert not _leftovers(tmp_path)


def _prepared_files(directory):
  builder = dataset.prepare(directory, "tiny")
  assert len(builder.as_data_source("test")) == 32
  return [
    (file.name, file.stat().st_mtime_ns)
    for file in sorted(pathlib.Path(builder.data_dir).iterdir())
  ]


def test_other_processes_draw_the_same_faces(monkeypatch):
  monkeypatch.setattr(dataset, "_MIN_PARALLEL", 1)
  monkeypatch.setattr(os, "cpu_count", lambda: 2)
  pngs = list(dataset._pngs("validation", 7))
  assert pngs == [
    drawing.png(dataset.sample_factors("validation", index))
    for index in range(7)
  ]


def test_a_broken_worker_is_reported(monkeypatch):
  monkeypatch.setattr(dataset, "_MIN_PARALLEL", 1)
  monkeypatch.setattr(os, "cpu_count", lambda: 2)
  monkeypatch.setattr(dataset, "_WORKER", "raise SystemExit(1)")
  with pytest.raises(RuntimeError, match="has stopped"):
    list(dataset._pngs("validation", 7))


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("here", "huge"), "config is 'huge'; it must be one of"),
    (("gs://bucket/data",), "data_dir is 'gs://bucket/data'"),
  ],
)
def test_wrong_places_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    dataset.prepare(*arguments)
