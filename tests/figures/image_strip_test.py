"""Strips: every pixel in its place, every label legible."""

import itertools

import numpy as np
import pytest
from PIL import ImageDraw

from tests.figures.pictures import random_images
from vae_jax import figures


def rows(count, *shape):
  return [random_images(*shape, seed=i) for i in range(count)]


@pytest.fixture
def texts(monkeypatch):
  """Returns texts as they are drawn, with their boxes and the picture size."""
  drawn = []
  write = ImageDraw.ImageDraw.text

  def text(self, xy, text, fill=None, font=None, anchor=None):
    box = self.textbbox(xy, text, font=font, anchor=anchor)
    drawn.append((text, box, self.im.size))
    return write(self, xy, text, fill, font, anchor=anchor)

  monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
  return drawn


def touch(one, other):
  return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in range(2))


def places(picture, image):
  """Returns the top left corners of an image in a picture."""
  windows = np.lib.stride_tricks.sliding_window_view(picture, image.shape)
  return np.argwhere((windows[:, :, 0] == image).all(axis=(2, 3, 4)))


@pytest.mark.parametrize("c", [1, 3])
def test_strip_without_labels_places_every_pixel(c):
  images = rows(3, 4, 5, 4, c)
  ends = {"leading": 1, "trailing": 1}
  picture = figures.image_strip(images, scale=2, groups=[1, 2], **ends)
  tops, lefts = (2, 2 + 10 + 10, 2 + 10 + 10 + 12), (2, 20, 30, 48)
  expected = np.full((tops[-1] + 12, lefts[-1] + 10, c), 255, np.uint8)
  for top, row in zip(tops, images, strict=True):
    for left, image in zip(lefts, row, strict=True):
      large = image.repeat(2, 0).repeat(2, 1)
      expected[top : top + 10, left : left + 8] = large
  np.testing.assert_array_equal(picture, expected)


def test_labels_are_next_to_their_rows_and_columns(texts):
  images = rows(2, 3, 30, 60, 1)
  names, heads = ("short", "a very much longer name.jpg"), ("-1", "0", "+1")
  picture = figures.image_strip(images, names, heads, scale=1)
  boxes = {text: box for text, box, _ in texts}
  assert list(boxes) == [*heads, *names]
  for row, name in zip(images, names, strict=True):
    ((top, left),) = places(picture, row[0])
    assert boxes[name][2] <= left and left - boxes[name][2] < 12
    assert boxes[name][1] >= top and boxes[name][3] <= top + 30
    for image, head in zip(row, heads, strict=True):
      ((_, left),) = places(picture, image)
      middle = (boxes[head][0] + boxes[head][2]) / 2
      assert abs(middle - left - 30) <= 2


@pytest.mark.parametrize("side", [4, 9, 16, 40, 64, 120])
@pytest.mark.parametrize(
  "heads",
  [
    [f"{v:+.2f}" for v in np.linspace(-3, 3, 13)],
    [f"attribute {i}" for i in range(14)],
    ["a heading that is wider than all columns"] * 3,
  ],
)
@pytest.mark.parametrize("sides", [(0, 0), (2, 0), (1, 1)])
def test_labels_never_touch(texts, side, heads, sides):
  leading, trailing = sides
  heads = ["original", "reconstruction"][:leading] + heads
  heads += ["the last original"][:trailing]
  images = rows(3, len(heads), side, side, 1)
  names = [f"z[{i}]  KL 3.41" for i in range(3)]
  ends = {"leading": leading, "trailing": trailing}
  figures.image_strip(images, names, heads, scale=1, **ends)
  written = [text for text, _, _ in texts]
  assert written[: leading + trailing] == (
    heads[:leading] + heads[len(heads) - trailing :]
  )
  assert heads[leading] in written
  boxes = [box for _, box, _ in texts]
  assert not any(touch(a, b) for a, b in itertools.combinations(boxes, 2))
  for _, (left, top, right, bottom), (width, height) in texts:
    assert 0 <= left and right <= width and 0 <= top and bottom <= height


def test_headings_that_do_not_fit_thin_out_evenly(texts):
  heads = [f"{v:+.2f}" for v in np.linspace(-3, 3, 13)]
  figures.image_strip(rows(1, 13, 20, 20, 1), (), heads, scale=1)
  # Every third would do as every second: both reach the last.
  assert [text for text, _, _ in texts] in (heads[::2], heads[::3])


def test_default_scale_suits_few_and_many_rows():
  few = figures.image_strip(rows(1, 9, 28, 28, 1))
  assert 1000 <= few.shape[1] <= 1800
  many = figures.image_strip(rows(64, 9, 28, 28, 1))
  assert 1500 <= many.shape[0] <= 2600
