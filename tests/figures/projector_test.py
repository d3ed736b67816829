"""Projector: the files that TensorBoard reads."""

import re

import numpy as np
from PIL import Image

from vae_jax.figures import projector


def read_projector(folder):
  text = (folder / "projector_config.pbtxt").read_text()
  paths = dict(re.findall(r'(\w+_path): "(.+)"', text))
  size = [int(v) for v in re.findall(r"single_image_dim: (\d+)", text)]
  rows = {
    k: [row.split("\t") for row in (folder / v).read_text().splitlines()]
    for k, v in paths.items()
    if v.endswith(".tsv")
  }
  return rows, Image.open(folder / paths["image_path"]), size


def test_projector_files_read_back(tmp_path):
  rng = np.random.RandomState(0)
  images = rng.randint(0, 256, (5, 4, 6, 3)).astype(np.uint8)
  codes = rng.randn(5, 3).astype(np.float32)
  columns = [("index", range(5)), ("label", "abcde")]
  projector.write(tmp_path, codes, images, columns)
  rows, sprite, (width, height) = read_projector(tmp_path)
  tensors = np.array(rows["tensor_path"], np.float64).astype(np.float32)
  np.testing.assert_array_equal(tensors, codes)
  assert rows["metadata_path"][0] == ["index", "label"]
  assert rows["metadata_path"][4] == ["3", "d"]
  assert (width, height) == (6, 4)
  # TensorBoard counts rows of as many images as the width holds.
  across = sprite.width // width
  for i, image in enumerate(images):
    left, top = i % across * width, i // across * height
    cell = np.asarray(sprite.crop((left, top, left + width, top + height)))
    np.testing.assert_array_equal(cell, image)
  assert np.asarray(sprite)[-4:, -6:].min() == 255


def test_sprite_is_bounded(tmp_path):
  images = np.zeros((9, 128, 64, 1), np.uint8)
  images[4] = 200
  codes = np.zeros((9, 2), np.float32)
  projector.write(tmp_path, codes, images, [("i", "abcdefghi")])
  rows, sprite, size = read_projector(tmp_path)
  assert size == [32, 64]
  assert sprite.size == (3 * 32, 3 * 64)
  assert np.asarray(sprite)[96, 48] == 200
  # One column has no head.
  assert rows["metadata_path"][0] == ["a"]
