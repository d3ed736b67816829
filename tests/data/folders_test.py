"""Folders of pictures: pixels, splits, and files that are wrong."""

import hashlib
import os
import shutil
import unicodedata
from unittest import mock

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from tests.support.pictures import (
  contents,
  fails,
  noise,
  numbered,
  opened,
  places,
  write,
)
from vae_jax.data import datasets, photos, source, transform

PURPOSES = source.PURPOSES
pytestmark = pytest.mark.usefixtures("own_index")


def share(name):
  digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode())
  return int(digest.hexdigest()[:8], 16) / 2**32


# Pixels and splits.


def test_pixels_classes_and_a_stable_split(tmp_path):
  images = numbered(60)
  kinds = ("cats", "dogs é", "birds/old")
  names = [
    f"{kinds[i % 3]}/a b {i}ü.{('png', 'PNG')[i % 2]}" for i in range(60)
  ]
  write(tmp_path, images, names)
  splits = opened(tmp_path)
  assert isinstance(splits.train, datasets.Source)
  assert splits.name == f"folder:{tmp_path}"
  assert splits.image_shape == (8, 6, 3) and splits.stored_size == (8, 6)
  assert splits.label_names == ("birds", "cats", "dogs é")
  for name, batch in contents(splits).items():
    order = batch["image"][:, 0, 0, 0].astype(int)
    assert_array_equal(batch["image"], images[order])
    assert_array_equal(batch["label"], (order + 1) % 3)
    assert batch["label"].dtype == np.int32
    low, high = {"train": (0, 0.8), "validation": (0.8, 0.9)}.get(
      name, (0.9, 1)
    )
    expected = [i for i, n in enumerate(names) if low <= share(n) < high]
    assert sorted(order) == expected
  # New files move none, nor does another way to write an accent.
  before = places(splits)
  write(
    tmp_path,
    numbered(30, seed=1) + 100,
    [f"cats/new{i}.png" for i in range(30)],
  )
  for path in list(tmp_path.glob("*/*ü*")):
    path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
  after = places(opened(tmp_path))
  assert all(set(before[name]) <= set(after[name]) for name in PURPOSES)
  assert sum(map(len, after.values())) == 90


@pytest.mark.parametrize("validation", ["validation", "valid", "val", None])
def test_folders_of_splits_are_used(tmp_path, validation):
  images = numbered(40)
  parts = [f"train/{'ab'[i % 2]}" for i in range(30)] + ["test/a"] * 5
  parts += [f"{validation}/b" if validation else "train/b"] * 5
  write(tmp_path, images, [f"{part}/{i}.png" for i, part in enumerate(parts)])
  splits = opened(tmp_path)
  found = places(splits)
  assert sorted(found["test"]) == list(range(30, 35))
  assert splits.label_names == ("a", "b")
  assert sorted(sum(found.values(), [])) == list(range(40))
  if validation:
    assert sorted(found["validation"]) == list(range(35, 40))
  else:
    assert found["validation"]
  assert splits.split_strings == {name: name for name in PURPOSES}
  fails(tmp_path, "is for data sets", train_split="train[:90%]")
  opened(tmp_path, train_split="train")
  write(tmp_path, images[:1], ["more.png"])
  fails(tmp_path, "1 pictures beside them, more.png first")


@pytest.mark.parametrize("count", [3, 6])
def test_few_pictures_are_in_all_splits(tmp_path, count):
  write(tmp_path, numbered(count))
  sizes = {name: len(rows) for name, rows in places(opened(tmp_path)).items()}
  assert sum(sizes.values()) == count and min(sizes.values()) >= 1
  assert sizes["train"] == max(sizes.values())


def test_too_few_pictures_are_refused(tmp_path):
  fails(tmp_path / "no", f"there is no folder {tmp_path}/no")
  fails(tmp_path, f"{tmp_path} has no pictures", ".webp")
  write(tmp_path, numbered(2), [".hidden.png", "_.png"])
  fails(tmp_path, "has 1 images", "train, validation, test")


def test_links_are_followed_once(tmp_path):
  write(tmp_path / "there", numbered(10))
  (tmp_path / "here").mkdir()
  (tmp_path / "here" / "a").symlink_to(tmp_path / "there")
  (tmp_path / "there" / "up").symlink_to(tmp_path / "here")
  assert len(sum(places(opened(tmp_path / "here")).values(), [])) == 10


# Formats.


@pytest.mark.parametrize(
  "end, options",
  [
    ("png", {}),
    ("JPG", {"format": "jpeg", "quality": 90}),
    ("webp", {"lossless": True}),
    ("gif", {}),
    ("bmp", {}),
    ("tiff", {}),
  ],
)
def test_formats_are_decoded(tmp_path, end, options):
  options = {"format": end, **options}
  names = [f"{i}.{end}" for i in range(5)]
  write(tmp_path, numbered(5), names, **options)
  found = [batch["image"] for batch in contents(opened(tmp_path)).values()]
  expected = []
  for name in names:
    with Image.open(tmp_path / name) as image:
      expected.append(np.asarray(image.convert("RGB")))
  assert {image.tobytes() for part in found for image in part} == {
    image.tobytes() for image in expected
  }


def test_mixed_modes_load_as_the_data_set_declares(tmp_path):
  gray = noise(8, 8)
  modes = ("1", "L", "LA", "P", "RGB", "RGBA")
  pictures = [Image.fromarray(gray).convert(mode) for mode in modes]
  write(tmp_path, pictures)
  cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
  write(tmp_path, [cmyk], ["c.jpg"], "jpeg", quality=100)
  splits = opened(tmp_path)
  assert splits.image_shape == (8, 8, 3)
  images = np.concatenate([b["image"] for b in contents(splits).values()])
  same = (images == gray[..., None]).all((1, 2, 3))
  # All but black and white, and red.
  assert len(images) == 7 and same.sum() == 5
  assert (
    np.abs(images.astype(int) - (255, 0, 0)).max((1, 2, 3)) <= 3
  ).sum() == 1
  # Gray alone has one channel.
  for name in ("003.png", "004.png", "005.png", "c.jpg"):
    (tmp_path / name).unlink()
  assert opened(tmp_path).image_shape == (8, 8, 1)
  assert opened(tmp_path, grayscale=True).image_shape == (8, 8, 1)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("limits", [(), (1000, 41_000)])
@pytest.mark.parametrize("end", ["png", "tiff"])
def test_sixteen_bits_are_scaled(tmp_path, channels, limits, end):
  image = np.random.default_rng(0).integers(0, 65536, (4, 8, 5, channels))
  image[..., 3:] = 65535
  for i, picture in enumerate(image.astype(np.uint16)):
    bgr = picture[..., [2, 1, 0, 3][:channels]] if channels > 1 else picture
    cv2.imwrite(str(tmp_path / f"{i}.{end}"), bgr)
  low, high = limits or (0, 65535)
  colors = image[..., :3]
  expected = np.clip(np.round((colors - low) * 255 / (high - low)), 0, 255)
  splits = opened(tmp_path, range=limits)
  images = np.concatenate([b["image"] for b in contents(splits).values()])
  assert {x.tobytes() for x in images} == {
    x.tobytes() for x in expected.astype(np.uint8)
  }
  if end == "png":
    how = transform.Transform(range=limits)
    one = photos.load(tmp_path / "0.png", how, splits.image_shape, (8, 5))
    assert_array_equal(one, expected[0])


@pytest.mark.parametrize("sizes", [[(12, 10)], [(12, 10), (14, 9), (10, 16)]])
@pytest.mark.parametrize(
  "how",
  [
    {"resize": 4},
    {"resize": (6, 3), "crop": 8},
    {"crop": (9, 7)},
    {"resize": (4, 7), "grayscale": True, "background": "#102030"},
  ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_a_file_is_prepared_as_the_images_of_the_data_set(
  tmp_path, sizes, how, channels
):
  exif = Image.Exif()
  exif[0x0112] = 6  # Turned by a quarter.
  images = [noise(*sizes[i % len(sizes)], channels, seed=i) for i in range(9)]
  write(tmp_path, images, exif=exif.tobytes())
  splits = opened(tmp_path, **how)
  stored_size = splits.stored_size
  assert stored_size == ((0, 0) if len(sizes) > 1 else (10, 12))
  known = stored_size if all(stored_size) else None
  chosen = transform.Transform(**how)
  alone = {
    photos.load(path, chosen, splits.image_shape, known).tobytes()
    for path in tmp_path.iterdir()
  }
  together = {
    image.tobytes()
    for batch in contents(splits).values()
    for image in batch["image"]
  }
  assert together == alone and len(alone) == 9


def test_transparency_is_composed_on_the_background(tmp_path):
  image = noise(9, 8, 8, 4)
  write(tmp_path, image)
  for background, color in (("white", (255,) * 3), ("#ff8000", (255, 128, 0))):
    images = contents(opened(tmp_path, background=background)).values()
    images = np.concatenate([batch["image"] for batch in images])
    opacity = image[..., 3:] / 255
    expected = np.round(
      image[..., :3] * opacity + np.array(color) * (1 - opacity)
    )
    assert {x.tobytes() for x in images} == {
      x.tobytes() for x in expected.astype(np.uint8)
    }
  fails(
    tmp_path, "--config.data.background='wite' is no color", background="wite"
  )


def test_sizes_that_differ_are_refused_or_said(tmp_path):
  write(tmp_path, [noise(8, 6, 3), noise(9, 7, 3), noise(8, 6, 3)])
  fails(tmp_path, "2 sizes", "8x6 (000.png) and 9x7 (001.png)", "data.resize")
  fails(tmp_path, "000.png: --config.data.crop=(9, 6) is larger", crop=(9, 6))
  lines = opened(tmp_path, resize=4).lines
  assert "3 images of 8x6 to 9x7 pixels" in lines[0] and "no labels" in lines[1]
  assert "resize=4 changes the proportions of images of 8x6" in lines[2]
  assert len(opened(tmp_path, crop=6, resize=4).lines) == 2


# Files that are wrong.


def test_unreadable_files_stop_or_are_left_out(tmp_path, monkeypatch):
  write(tmp_path, numbered(30))
  for i in range(12):
    path = tmp_path / f"{i:03d}.png"
    path.write_bytes(path.read_bytes()[: 60 + i] if i else b"")
  decode = mock.Mock(wraps=photos.decode)
  monkeypatch.setattr(photos, "decode", decode)
  for _ in range(2):
    fails(
      tmp_path,
      "12 of 30 pictures",
      "000.png is not an image in an allowed format",
      "009.png cannot be decoded: the file is damaged or truncated; and 2 more",
      "--config.data.unreadable=skip",
    )
    # What is known of a file is not found out twice.
    assert decode.call_count == 30
  splits = opened(tmp_path, unreadable="skip")
  assert "left out: 12 of 30 pictures" in splits.lines[2]
  assert sorted(sum(places(splits).values(), [])) == list(range(12, 30))
  (tmp_path / "020.png").unlink()
  gone = [
    name
    for name in PURPOSES
    if 20 in places(opened(tmp_path, unreadable="skip"))[name]
  ]
  assert not gone
  with pytest.raises(
    datasets.DataError, match="020.png cannot be read: No such"
  ):
    contents(splits)


def test_fingerprint_and_digest_follow_the_content(tmp_path):
  write(tmp_path / "a", numbered(20))
  one = opened(tmp_path / "a")
  shutil.copytree(tmp_path / "a", tmp_path / "b" / "a")
  two = opened(tmp_path / "b" / "a")
  assert one.train.fingerprint == two.train.fingerprint
  assert one.digest == two.digest
  write(tmp_path / "a", numbered(20, seed=1)[:1])
  os.utime(tmp_path / "a" / "000.png", (1, 1))
  three = opened(tmp_path / "a")
  assert three.digest != one.digest
  assert opened(tmp_path / "a", resize=4).digest != three.digest
