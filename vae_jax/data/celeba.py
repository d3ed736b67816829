"""CelebA from its five official files, without TensorFlow or a download.

Google Drive often refuses the download of CelebA. The manually downloaded
files (`FILES`, from `HOMEPAGE`) give the same data set: version 2.1.0 of
`celeb_a` in tensorflow-datasets, with equal splits, features and JPEG bytes.
"""

import contextlib
import os
import pathlib
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
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
# The values after the image name in each table; those with several have a
# header.
_COLUMNS = dict(
  zip(FILES[1:], (["split"], ATTRIBUTES, LANDMARKS, ["person"]), strict=True)
)
_SPLITS = {"train": "0", "validation": "1", "test": "2"}
_Table = dict[str, list[str]]  # Rows by image name.


def prepare(manual_dir: pathlib.Path, data_dir: pathlib.Path) -> None:
  """Writes `celeb_a` 2.1.0 as ArrayRecord under the root `data_dir` from the
  five official files in `manual_dir`.

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


class CelebA(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The builder of `celeb_a` that reads the official files."""

  VERSION = tfds.core.Version("2.1.0")

  def __init__(
    self, *, files: tuple[pathlib.Path, list[_Table]], **kwargs: Any
  ):
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
    images, (partition, attributes, landmarks, identity) = self._files
    names = sorted(n for n, row in partition.items() if row == [code])
    with _open(images) as (_, read):
      for name in names:
        bits = [word == "1" for word in attributes[name]]
        places = [int(word) for word in landmarks[name]]
        # The key is the name, as in tensorflow-datasets, so that its shuffle,
        # which hashes the key, gives the same order of examples.
        yield (
          name,
          {
            "image": read(name),
            "landmarks": dict(zip(LANDMARKS, places, strict=True)),
            "attributes": dict(zip(ATTRIBUTES, bits, strict=True)),
            "identity": {"Identity_No": int(identity[name][0])},
          },
        )


def _read(folder: pathlib.Path) -> tuple[pathlib.Path, list[_Table]]:
  """Returns the folder or zip of images and the tables of `_COLUMNS`, after
  comparing their image names."""
  if not folder.is_dir():
    raise errors.DataError(
      f"--config.data.manual_dir={folder} is not a folder; {INSTRUCTIONS}"
    )
  images = folder / FILES[0].removesuffix(".zip")
  if not images.is_dir():
    images = folder / FILES[0]
  missing = [] if images.exists() else [FILES[0]]
  missing += [name for name in _COLUMNS if not (folder / name).is_file()]
  if missing:
    raise errors.DataError(
      f"{folder} lacks {', '.join(missing)}; {INSTRUCTIONS}"
    )
  tables = {
    name: _table(folder / name, columns, header=len(columns) > 1)
    for name, columns in _COLUMNS.items()
  }
  partition = tables[FILES[1]]
  with _open(images) as (names, _):
    for where, known in {images.name: names, **tables}.items():
      absent = partition.keys() - known
      if absent:
        raise errors.DataError(
          f"{folder / where} lacks {len(absent)} of the {len(partition)} "
          f"images in {FILES[1]}, {min(absent)} first: download it again"
        )
  return images, list(tables.values())


def _table(path: pathlib.Path, columns: Sequence[str], header: bool) -> _Table:
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


@contextlib.contextmanager
def _open(
  images: pathlib.Path,
) -> Iterator[tuple[Collection[str], Callable[[str], bytes]]]:
  """Yields the image names in a folder or zip, and a reader of JPEG bytes."""
  if images.is_dir():
    yield os.listdir(images), lambda name: (images / name).read_bytes()
    return
  try:
    archive = zipfile.ZipFile(images)
  except zipfile.BadZipFile as error:
    raise errors.DataError(
      f"{images} ({images.stat().st_size} bytes) is not a complete zip file "
      f"({error}), perhaps a page of Google Drive saved under its name: "
      "download it again"
    ) from error
  with archive:
    members = {os.path.basename(path): path for path in archive.namelist()}
    yield members, lambda name: archive.read(members[name])
