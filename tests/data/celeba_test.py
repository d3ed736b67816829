"""CelebA from its official files, or from damaged ones."""

import zipfile

import cv2
import numpy as np
import pytest

from tests.support import tfds
from vae_jax.data import celeba, datasets

NAMES = [f"{i:06d}.jpg" for i in range(1, 13)]
PARTITION = [0] * 8 + [1] * 3 + [2]


def official_files(folder, zipped=True):
  """Writes small files in the official formats; returns their content."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (len(NAMES), 6, 5, 3)).astype(np.uint8)
  images = [cv2.imencode(".jpg", cv2.resize(c, (178, 218)))[1] for c in coarse]
  images = dict(zip(NAMES, (i.tobytes() for i in images), strict=True))
  attributes = rng.choice([-1, 1], (len(NAMES), 40))
  landmarks = rng.integers(0, 178, (len(NAMES), 10))
  if zipped:
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
      archive.writestr("img_align_celeba/", "")
      for name, image in images.items():
        archive.writestr(f"img_align_celeba/{name}", image)
  else:
    (folder / "img_align_celeba").mkdir()
    for name, image in images.items():
      (folder / "img_align_celeba" / name).write_bytes(image)

  def write(file, rows, columns=()):
    lines = [str(len(NAMES)), " ".join(columns) + " "] if columns else []
    lines += [
      f"{name}  {' '.join(f'{x:2d}' for x in np.atleast_1d(row))}"
      for name, row in zip(NAMES, rows, strict=True)
    ]
    (folder / file).write_text("\n".join(lines) + "\n")

  write("list_eval_partition.txt", PARTITION)
  write("list_attr_celeba.txt", attributes, celeba.ATTRIBUTES)
  write("list_landmarks_align_celeba.txt", landmarks, celeba.LANDMARKS)
  write("identity_CelebA.txt", range(100, 112))
  return images, attributes > 0


def config(tmp_path, **changes):
  root = tmp_path / "tfds"
  root.mkdir(exist_ok=True)
  changes = {"manual_dir": str(tmp_path), **changes}
  return tfds.config(root, "celeb_a", **changes)


@pytest.mark.parametrize("zipped", [True, False])
def test_official_files_become_celeb_a(tmp_path, zipped):
  images, attributes = official_files(tmp_path, zipped)
  splits = datasets.open_splits(config(tmp_path))
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
      np.testing.assert_array_equal(label, attributes[NAMES.index(name)])
  assert codes == dict(zip(NAMES, PARTITION, strict=True))


def test_one_attribute_can_be_the_label(tmp_path):
  _, attributes = official_files(tmp_path)
  splits = datasets.open_splits(config(tmp_path, label="attributes/Smiling"))
  labels = splits.train.fetch(np.arange(8))["label"]
  assert labels.dtype == np.int32
  assert splits.label_names == ("not Smiling", "Smiling")
  assert sorted(labels) == sorted(attributes[:8, 31])


def test_prepared_data_set_opens_without_the_files(tmp_path):
  official_files(tmp_path)
  datasets.open_splits(config(tmp_path))
  again = datasets.open_splits(config(tmp_path, manual_dir="", crop=148))
  assert again.image_shape == (148, 148, 3)


def remove_line(path, number):
  lines = path.read_text().splitlines(keepends=True)
  del lines[number]
  path.write_text("".join(lines))


def without_an_image(folder):
  archive = folder / "img_align_celeba.zip"
  archive.unlink()
  with zipfile.ZipFile(archive, "w") as images:
    for name in NAMES[1:]:
      images.writestr(name, b"")


DAMAGES = {
  "missing file": (
    lambda f: (f / "identity_CelebA.txt").unlink(),
    "lacks identity_CelebA.txt; put img_align_celeba.zip",
  ),
  "missing images": (
    lambda f: (f / "img_align_celeba.zip").unlink(),
    "lacks img_align_celeba.zip;",
  ),
  "quota page": (
    lambda f: (f / "img_align_celeba.zip").write_text("<!DOCTYPE html>"),
    "a page of Google Drive",
  ),
  "missing image": (without_an_image, "lacks 1 of the 12 images .* 000001.jpg"),
  "truncated": (
    lambda f: remove_line(f / "list_attr_celeba.txt", -1),
    "list_attr_celeba.txt has 11 rows, but its first line is 12",
  ),
  "truncated without header": (
    lambda f: remove_line(f / "identity_CelebA.txt", -1),
    "identity_CelebA.txt lacks 1 of the 12 images .* 000012.jpg",
  ),
  "other columns": (
    lambda f: remove_line(f / "list_landmarks_align_celeba.txt", 1),
    "does not name lefteye_x ... rightmouth_y",
  ),
  "page as table": (
    lambda f: (f / "list_eval_partition.txt").write_text("<html>\n</html>"),
    "has a line '<html>'",
  ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_on_one_line(tmp_path, damage):
  official_files(tmp_path)
  spoil, message = DAMAGES[damage]
  spoil(tmp_path)
  with pytest.raises(datasets.DataError, match=message) as error:
    datasets.open_splits(config(tmp_path))
  assert "\n" not in str(error.value)


def test_missing_manual_dir_is_refused(tmp_path):
  with pytest.raises(datasets.DataError, match="is not a folder; put img_al"):
    datasets.open_splits(config(tmp_path, manual_dir=str(tmp_path / "no")))
