"""Transforms: crop, luma, resize, opacity, orientation and levels."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal
from PIL import Image

from tests.support.pictures import numbered, stored
from tests.support.tfds import content, opened, pictures, png, write
from vae_jax.data import datasets, transform

pytestmark = pytest.mark.usefixtures("offline")


def test_center_crop_keeps_the_center(root):
  images = content(opened(root, crop=4).test)["image"]
  expected = pictures(60)[50:, 2:6, 1:5]
  assert sorted(x.tobytes() for x in images) == sorted(
    x.tobytes() for x in expected
  )


def test_resize_takes_the_mean_over_each_area():
  image = pictures(1, (12, 12, 3))[0]
  small = transform.Transform(resize=4)(image)
  mean = image.reshape(4, 3, 4, 3, 3).astype(float).mean((1, 3))
  assert np.abs(small - mean).max() <= 0.5 + 1e-6
  # Areas that overlap pixels partly weight them by the overlap.
  weights = np.array([[1, 0.5, 0], [0, 0.5, 1]]) / 1.5
  three = pictures(1, (3, 3, 1))[0]
  two = transform.Transform(resize=2)(three)
  exact = weights @ three[..., 0].astype(float) @ weights.T
  assert np.abs(two[..., 0] - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grayscale_is_luma(channels):
  image = pictures(1, (8, 6, channels))[0]
  gray = transform.Transform(grayscale=True)(image)
  assert gray.shape == (8, 6, 1)
  if channels == 1:
    assert_array_equal(gray, image)
  else:
    # What is transparent is white.
    opacity = image[..., 3:] / 255 if channels == 4 else 1
    color = image[..., :3] * opacity + 255 * (1 - opacity)
    luma = color @ np.array([0.299, 0.587, 0.114])
    assert np.abs(gray[..., 0] - luma).max() <= 1.01


@pytest.mark.parametrize("grayscale", [False, True])
def test_image_shape_is_that_of_the_images(root, grayscale):
  splits = opened(root, crop=5, resize=3, grayscale=grayscale)
  assert splits.image_shape == (3, 3, 1 if grayscale else 3)
  assert content(splits.test)["image"].shape == (10, *splits.image_shape)


def test_images_of_several_sizes_need_a_crop(tmp_path):
  images = [*pictures(10, (8, 6, 3)), *pictures(10, (7, 9, 3))]
  feature = {"image": tfds.features.Image(encoding_format="png")}
  write(tmp_path, {"train": [{"image": png(x)} for x in images]}, feature)
  cropped = opened(tmp_path, crop=6)
  assert cropped.image_shape == (6, 6, 3)
  assert len(content(cropped.train)["image"]) == len(cropped.train)
  with pytest.raises(datasets.DataError, match="--config.data.resize"):
    content(opened(tmp_path).train)


def stored_as(root, contents, **image):
  """Prepares a data set of encoded images."""
  image = {"encoding_format": "png", **image}
  write(
    root,
    {"train": [{"image": c} for c in contents]},
    {"image": tfds.features.Image(**image)},
  )


def test_sixteen_bits_are_scaled_never_wrapped(tmp_path):
  levels = np.random.default_rng(0).integers(0, 65536, (20, 8, 6, 1))
  files = [
    cv2.imencode(".png", x.astype(np.uint16))[1].tobytes() for x in levels
  ]
  stored_as(tmp_path / "a", files, shape=(8, 6, 1), dtype=np.uint16)
  for limits in ((), (500, 20_000)):
    low, high = limits or (0, 65535)
    expected = np.clip(np.round((levels - low) * 255 / (high - low)), 0, 255)
    splits = opened(tmp_path / "a", range=limits)
    for image in content(splits.train)["image"]:
      assert (image == expected).all((1, 2, 3)).any()
  stored_as(tmp_path / "b", files, shape=(8, 6, 1))
  with pytest.raises(datasets.DataError, match="image 2 of tiny.* 16 bits per"):
    opened(tmp_path / "b").train.fetch(np.array([2]))


def test_opacity_and_orientation_are_applied(tmp_path):
  image = numbered(20, (8, 6, 4))
  stored_as(
    tmp_path / "a",
    [cv2.imencode(".png", x[..., [2, 1, 0, 3]])[1].tobytes() for x in image],
    shape=(8, 6, 4),
  )
  splits = opened(tmp_path / "a", background="black")
  assert splits.image_shape == (8, 6, 3)
  expected = np.round(image[..., :3] * (image[..., 3:] / 255))
  for found in content(splits.train)["image"]:
    assert (found == expected).all((1, 2, 3)).any()
  exif = Image.Exif()
  exif[0x0112] = 8
  turned = [stored(x[..., :3], exif=exif.tobytes()) for x in image]
  stored_as(tmp_path / "b", turned)
  splits = opened(tmp_path / "b")
  assert splits.image_shape == (6, 8, 3)
  for found in content(splits.train)["image"]:
    assert (found == np.rot90(image[..., :3], axes=(1, 2))).all((1, 2, 3)).any()


def test_zeros_and_ones_become_black_and_white(tmp_path):
  image = pictures(20, (8, 6, 1)) % 2
  stored_as(tmp_path, [png(np.repeat(x, 3, 2)) for x in image])
  splits = opened(tmp_path)
  assert splits.range == (0, 1) and splits.lines
  for found in content(splits.train)["image"]:
    assert (found == 255 * image).all((1, 2, 3)).any()
  assert opened(tmp_path, range=(0, 255)).range == (0, 255)
