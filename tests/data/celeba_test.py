"""CelebA from its official files, or from damaged ones."""

import pathlib
import re
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support import tfds
from vae_jax.data import celeba

NAMES = [f"{i:06d}.jpg" for i in range(1, 13)]
ZIP, SPLIT, BITS, PLACES, PERSONS = celeba.FILES
PARTITION = [0] * 8 + [1] * 3 + [2]


def official_files(folder, zipped=True):
  """Writes small files in the official formats; returns their content."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (len(NAMES), 6, 5, 3)).astype(np.uint8)
  images = [cv2.imencode(".jpg", cv2.resize(c, (178, 218)))[1] for c in coarse]
  images = dict(zip(NAMES, (i.tobytes() for i in images), strict=True))
  attributes = rng.choice([-1, 1], (len(NAMES), 40))
  landmarks = rng.integers(0, 178, (len(NAMES), 10))
  unpacked = folder / "img_align_celeba"
  unpacked.mkdir()
  for name, image in images.items():
    (unpacked / name).write_bytes(image)
  if zipped:
    shutil.make_archive(unpacked, "zip", folder, unpacked.name)
    shutil.rmtree(unpacked)
  for file, rows, columns in (
    (SPLIT, PARTITION, ()),
    (BITS, attributes, celeba.ATTRIBUTES),
    (PLACES, landmarks, celeba.LANDMARKS),
    (PERSONS, range(100, 112), ()),
  ):
    lines = [str(len(NAMES)), " ".join(columns) + " "] if columns else []
    for name, row in zip(NAMES, rows, strict=True):
      lines.append(f"{name}  {' '.join(f'{x:2d}' for x in np.atleast_1d(row))}")
    (folder / file).write_text("\n".join(lines) + "\n")
  return images, attributes > 0


def opened(tmp_path, open_data=tfds.opened, **changes):
  root = tmp_path / "tfds"
  root.mkdir(exist_ok=True)
  changes = {"manual_dir": str(tmp_path), **changes}
  return open_data(root, "celeb_a", **changes)


@pytest.mark.parametrize("zipped", [True, False])
def test_official_files_become_celeb_a(tmp_path, zipped):
  images, attributes = official_files(tmp_path, zipped)
  splits = opened(tmp_path)
  assert splits.name == "celeb_a:2.1.0"
  assert splits.image_shape == (218, 178, 3)
  assert splits.label_names == tuple(celeba.ATTRIBUTES)
  assert splits.label_names[31] == "Smiling"
  assert splits.train.label_shape == (40,)
  decoded = {
    name: cv2.imdecode(np.frombuffer(image, np.uint8), 1)[..., ::-1]
    for name, image in images.items()
  }
  codes = {}
  for code, source in enumerate((splits.train, splits.validation, splits.test)):
    batch = source.fetch(np.arange(len(source)))
    assert batch["label"].dtype == np.uint8
    for image, label in zip(batch["image"], batch["label"], strict=True):
      (name,) = (n for n in NAMES if np.array_equal(decoded[n], image))
      codes[name] = code
      assert_array_equal(label, attributes[NAMES.index(name)])
  assert codes == dict(zip(NAMES, PARTITION, strict=True))
  # Once prepared, it needs the files no more.
  again = opened(tmp_path, manual_dir="", crop=148, label="attributes/Smiling")
  assert again.image_shape == (148, 148, 3)
  labels = again.train.fetch(np.arange(8))["label"]
  assert labels.dtype == np.int32
  assert again.label_names == ("not Smiling", "Smiling")
  assert sorted(labels) == sorted(attributes[:8, 31])


def without_line(number):
  def change(path):
    lines = path.read_text().splitlines(keepends=True)
    del lines[number]
    path.write_text("".join(lines))

  return change


def without_an_image(path):
  path.unlink()
  with zipfile.ZipFile(path, "w") as images:
    for name in NAMES[1:]:
      images.writestr(name, b"")


unlink = pathlib.Path.unlink


@pytest.mark.parametrize(
  "file, spoil, message",
  [
    (PERSONS, unlink, "lacks identity_CelebA.txt; put img_align_celeba.zip"),
    (ZIP, unlink, "lacks img_align_celeba.zip;"),
    (ZIP, lambda path: path.write_text("<html>"), "a page of Google Drive"),
    (ZIP, without_an_image, "lacks 1 of the 12 images .* 000001.jpg"),
    (BITS, without_line(-1), f"{BITS} has 11 rows, but its first line is 12"),
    (PERSONS, without_line(-1), f"{PERSONS} lacks 1 of the 12 .* 000012.jpg"),
    (PLACES, without_line(1), "does not name lefteye_x ... rightmouth_y"),
    (SPLIT, lambda path: path.write_text("<html>\n<"), "has a line '<html>'"),
  ],
)
def test_damaged_file_is_named_on_one_line(tmp_path, file, spoil, message):
  official_files(tmp_path)
  spoil(tmp_path / file)
  assert re.search(message, opened(tmp_path, tfds.fails))
  missing = opened(tmp_path, tfds.fails, manual_dir=str(tmp_path / "no"))
  assert "is not a folder; put img_al" in missing
