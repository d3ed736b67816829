"""CelebA from its five official files, without TensorFlow or a download.

Google Drive often refuses the download of CelebA. The manually downloaded
files (`FILES`, from `HOMEPAGE`) give the same data set: version 2.1.0 of
`celeb_a` in tensorflow-datasets, with equal splits, features and JPEG bytes.
"""

import contextlib
import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from vae_jax.data import errors

HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
FILES = (
  "img_align_celeba.zip",
  "list_eval_partition.txt",
  "list_attr_celeba.txt",
  "list_landmarks_align_celeba.txt",
  "identity_CelebA.txt",
)
ATTRIBUTES = (
  "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs "
  "Big_Lips Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows "
  "Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup "
  "High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
  "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns "
  "Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat "
  "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()
LANDMARKS = (
  "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x "
  "leftmouth_y rightmouth_x rightmouth_y"
).split()
INSTRUCTIONS = (
  f"put {', '.join(FILES)} (in a browser, from {HOMEPAGE}; the zip may be "
  "unpacked as img_align_celeba/) into one folder and name it with "
  "--config.data.manual_dir=FOLDER, which needs neither TensorFlow nor a "
  "download"
)
_SPLITS = {"train": "0", "validation": "1", "test": "2"}


def prepare(manual_dir: pathlib.Path, data_dir: pathlib.Path) -> None:
  """Writes `celeb_a` 2.1.0 as ArrayRecord under `data_dir`.

  Args:
    manual_dir: folder with the five official files.
    data_dir: root of the prepared data sets.

  Raises:
    DataError: a file is missing, truncated, or not CelebA's.
  """
  logging.info("preparing celeb_a under %s from %s", data_dir, manual_dir)
  builder = CelebA(
    files=_read(manual_dir), data_dir=data_dir, file_format="array_record"
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )


@dataclasses.dataclass(frozen=True)
class _Files:
  """The folder or zip of images, and each table from image name to row."""

  images: pathlib.Path
  partition: dict[str, list[str]]
  attributes: dict[str, list[str]]
  landmarks: dict[str, list[str]]
  identity: dict[str, list[str]]


class CelebA(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The builder of `celeb_a` that reads the official files."""

  VERSION = tfds.core.Version("2.1.0")

  def __init__(self, *, files: _Files, **kwargs: Any):
    self._files = files
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Celebrity faces, aligned, with 40 attributes.",
      homepage=HOMEPAGE,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(218, 178, 3), encoding_format="jpeg"
          ),
          "landmarks": dict.fromkeys(LANDMARKS, np.int64),
          "attributes": dict.fromkeys(ATTRIBUTES, np.bool_),
          "identity": {"Identity_No": np.int64},
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    return {
      split: self._generate_examples(code) for split, code in _SPLITS.items()
    }

  def _generate_examples(self, code: str) -> Iterator[tuple[str, Any]]:
    files = self._files
    names = sorted(n for n, row in files.partition.items() if row == [code])
    with _reader(files.images) as read:
      for name in names:
        attributes = [word == "1" for word in files.attributes[name]]
        landmarks = [int(word) for word in files.landmarks[name]]
        # The key is the name, as in tensorflow-datasets, so that its shuffle,
        # which hashes the key, gives the same order of examples.
        yield (
          name,
          {
            "image": read(name),
            "landmarks": dict(zip(LANDMARKS, landmarks, strict=True)),
            "attributes": dict(zip(ATTRIBUTES, attributes, strict=True)),
            "identity": {"Identity_No": int(files.identity[name][0])},
          },
        )


def _read(folder: pathlib.Path) -> _Files:
  """Returns the official files, after comparing their image names."""
  if not folder.is_dir():
    raise errors.DataError(
      f"--config.data.manual_dir={folder} is not a folder; {INSTRUCTIONS}"
    )
  images = folder / FILES[0].removesuffix(".zip")
  if not images.is_dir():
    images = folder / FILES[0]
  missing = [f for f in FILES[1:] if not (folder / f).is_file()]
  missing = ([] if images.exists() else [FILES[0]]) + missing
  if missing:
    raise errors.DataError(
      f"{folder} lacks {', '.join(missing)}; {INSTRUCTIONS}"
    )
  partition = _table(folder / FILES[1], ["partition"], header=False)
  files = _Files(
    images=images,
    partition=partition,
    attributes=_table(folder / FILES[2], ATTRIBUTES, header=True),
    landmarks=_table(folder / FILES[3], LANDMARKS, header=True),
    identity=_table(folder / FILES[4], ["identity"], header=False),
  )
  for where, names in (
    (images.name, _image_names(images)),
    (FILES[2], files.attributes),
    (FILES[3], files.landmarks),
    (FILES[4], files.identity),
  ):
    absent = partition.keys() - names
    if absent:
      raise errors.DataError(
        f"{folder / where} lacks {len(absent)} of the {len(partition)} images "
        f"in {FILES[1]}, {min(absent)} first: download it again"
      )
  return files


def _table(
  path: pathlib.Path, columns: list[str], header: bool
) -> dict[str, list[str]]:
  """Returns the rows of an official text file, by image name.

  Args:
    path: the file.
    columns: names of the values that follow the image name in a row.
    header: whether the file starts with a line with the number of rows and a
      line with `columns`.
  """
  lines = path.read_text(errors="replace").splitlines()
  if header:
    if len(lines) < 2 or lines[1].split() != list(columns):
      raise errors.DataError(
        f"{path} does not name {columns[0]} ... {columns[-1]} in its second "
        "line: it is not CelebA's file, download it again"
      )
    count, lines = lines[0].strip(), lines[2:]
    if str(len(lines)) != count:
      raise errors.DataError(
        f"{path} has {len(lines)} rows, but its first line is {count}: it is "
        "truncated, download it again"
      )
  rows = {}
  for line in lines:
    name, *row = line.split() or [""]
    if len(row) != len(columns):
      raise errors.DataError(
        f"{path} has a line {line[:60]!r} without an image name and "
        f"{len(columns)} values: it is not CelebA's file, download it again"
      )
    rows[name] = row
  return rows


def _members(images: zipfile.ZipFile) -> dict[str, str]:
  """Returns the path in the zip of each image name."""
  return {os.path.basename(path): path for path in images.namelist()}


def _image_names(images: pathlib.Path) -> set[str]:
  """Returns the names of the images in the folder or the zip."""
  if images.is_dir():
    return set(os.listdir(images))
  try:
    with zipfile.ZipFile(images) as archive:
      return set(_members(archive))
  except zipfile.BadZipFile as error:
    raise errors.DataError(
      f"{images} ({images.stat().st_size} bytes) is not a complete zip file "
      f"({error}), perhaps a page of Google Drive saved under its name: "
      "download it again"
    ) from error


@contextlib.contextmanager
def _reader(images: pathlib.Path) -> Iterator[Callable[[str], bytes]]:
  """Yields a function from the name of an image to its stored JPEG bytes."""
  if images.is_dir():
    yield lambda name: (images / name).read_bytes()
  else:
    with zipfile.ZipFile(images) as archive:
      members = _members(archive)
      yield lambda name: archive.read(members[name])
