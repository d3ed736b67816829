"""A person's own pictures: by value, whatever they are stored as."""

import io
import struct
import warnings
import zlib
from concurrent import futures

import cv2
import numpy as np
import pytest
from PIL import Image

from vae_jax.data import errors, photos, records

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def stored(image, format="png", **options):
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, format, **options)
  return buffer.getvalue()


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def read(content, shape=(8, 8, 3), **settings):
  return photos.read(content, "me.png", shape, **settings)


def chunk(kind, content):
  body = kind + content
  return (
    struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
  )


def png_of_size(width, height):
  """A picture of which there is not much more than the header."""
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 99))
  return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def nothing_leaks(recwarn):
  yield
  assert not recwarn.list


def test_an_image_of_the_right_size_is_itself():
  image = noise(8, 8, 3)
  np.testing.assert_array_equal(read(stored(image)), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  "size, crop, resize",
  [((21, 17), 14, 8), ((17, 21), 14, 8), ((21, 21), 0, 8), ((9, 9), 5, 0)],
)
def test_as_the_data_set_treats_its_own(size, crop, resize, channels):
  image = noise(*size, 3)
  transform = records.Transform(crop, resize, grayscale=channels == 1)
  expected = transform(image)
  found = read(stored(image), expected.shape, crop=crop, stored=size)
  np.testing.assert_array_equal(found, expected)


def test_the_same_part_of_a_photo_of_another_size():
  # A data set that keeps rows 4..12 and columns 2..10 of 16 x 12 pixels.
  photo = np.zeros((48, 100, 3), np.uint8)
  photo[12:36, 38:62] = RED
  found = read(stored(photo), (8, 8, 3), crop=8, stored=(16, 12))
  np.testing.assert_array_equal(found, np.full((8, 8, 3), RED))
  # Not known: the whole centre.
  whole = read(stored(photo), (8, 8, 3), crop=8)
  assert (whole[0, 0] == 0).all() and (whole[4, 4] == RED).all()


@pytest.mark.parametrize("size", [(8, 20), (20, 8)])
def test_the_largest_centred_square(size):
  photo = np.zeros((*size, 3), np.uint8)
  top, left = (size[0] - 8) // 2, (size[1] - 8) // 2
  photo[top : top + 8, left : left + 8] = noise(8, 8, 3)
  np.testing.assert_array_equal(read(stored(photo)), noise(8, 8, 3))


def test_images_that_are_no_squares():
  image = noise(12, 6, 3)
  wide = np.concatenate([np.zeros_like(image), image, np.zeros_like(image)], 1)
  found = read(stored(wide), (6, 3, 3))
  areas = image.reshape(6, 2, 3, 2, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(found, areas, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_exif_turns_it_upright(format, orientation):
  # Where the first row and the first column of what is stored belong:
  # EXIF 2.32, table of the tag 0x0112.
  first_row, first_column = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
  }[orientation]
  photo = np.zeros((32, 32, 3), np.uint8)
  photo[:8] += np.array(RED, np.uint8)
  photo[:, :8] += np.array(BLUE, np.uint8)
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {"webp": {"lossless": True}, "jpeg": {"quality": 100}}
  found = read(
    stored(photo, format, exif=exif.tobytes(), **options.get(format, {})),
    (32, 32, 3),
  ).astype(int)
  edge = {
    "top": np.s_[:4, 12:20],
    "bottom": np.s_[-4:, 12:20],
    "left": np.s_[12:20, :4],
    "right": np.s_[12:20, -4:],
  }
  for name, where in edge.items():
    colour = found[where].mean(axis=(0, 1))
    wanted = np.zeros(3)
    wanted += RED if name == first_row else 0
    wanted += BLUE if name == first_column else 0
    np.testing.assert_allclose(colour, wanted, atol=12, err_msg=name)


def test_transparency_shows_white():
  rgba = noise(8, 8, 4)
  opacity = rgba[..., 3:] / 255
  expected = rgba[..., :3] * opacity + 255 * (1 - opacity)
  np.testing.assert_allclose(read(stored(rgba)), expected, atol=1.01)
  grey = noise(8, 8, 2)
  opacity = grey[..., 1:] / 255
  expected = grey[..., :1] * opacity + 255 * (1 - opacity)
  found = read(stored(Image.fromarray(grey, "LA")), (8, 8, 1))
  np.testing.assert_allclose(found, expected, atol=1.01)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_colour_that_is_transparent(mode):
  image = Image.new("RGB", (8, 8), "white")
  image.paste((0, 0, 0), (0, 0, 4, 8))
  image = image.convert(mode)
  black = image.getpixel((0, 0))
  found = read(stored(image, transparency=black), (8, 8, 1))
  np.testing.assert_array_equal(found, np.full((8, 8, 1), 255))
  opaque = read(stored(image), (8, 8, 1))
  assert (opaque[:, :4] == 0).all() and (opaque[:, 4:] == 255).all()


@pytest.mark.parametrize("format", ["gif", "png", "bmp"])
def test_palettes(format):
  image = Image.fromarray(
    np.array([[RED, GREEN], [BLUE, RED]], np.uint8).repeat(4, 0).repeat(4, 1)
  )
  content = stored(image.quantize(8), format)
  np.testing.assert_array_equal(read(content), np.asarray(image))


def test_sixteen_bits_of_grey():
  levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
  found = read(stored(levels), (8, 8, 1))
  np.testing.assert_array_equal(found[..., 0], np.round(levels / 257))


def test_four_inks():
  image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
  found = read(stored(image, "jpeg", quality=100), (16, 16, 3))
  np.testing.assert_allclose(found, np.full((16, 16, 3), RED), atol=3)


def test_grey_and_colour_become_each_other():
  grey = noise(8, 8)
  found = read(stored(grey), (8, 8, 3))
  np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))
  np.testing.assert_array_equal(read(stored(grey), (8, 8, 1))[..., 0], grey)
  colour = noise(8, 8, 3)
  luma = colour @ np.array([0.299, 0.587, 0.114])
  found = read(stored(colour), (8, 8, 1))[..., 0]
  np.testing.assert_allclose(found, luma, atol=0.51)


def test_shrinking_takes_the_mean_of_each_area():
  image = noise(64, 64, 3)
  means = image.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(read(stored(image)), means, atol=0.51)


def test_tiny_images_grow():
  found = read(stored(np.full((1, 1, 3), RED, np.uint8)))
  np.testing.assert_array_equal(found, np.full((8, 8, 3), RED))
  found = read(stored(noise(2, 300, 3)), crop=4, stored=(20, 6))
  assert found.shape == (8, 8, 3)


def test_of_an_animation_the_first_frame():
  frames = [Image.new("RGB", (8, 8), c) for c in (RED, BLUE)]
  for format in ("gif", "webp", "png"):
    options = {"lossless": True} if format == "webp" else {}
    content = stored(
      frames[0], format, save_all=True, append_images=frames[1:], **options
    )
    np.testing.assert_array_equal(read(content), np.full((8, 8, 3), RED))


def refusal(content):
  with pytest.raises(errors.DataError) as caught:
    read(content)
  message = str(caught.value)
  assert message.startswith("me.png ") and "\n" not in message
  return message


@pytest.mark.parametrize(
  "content",
  [b"", b"GIF89a", b"\0" * 100, b"<svg></svg>", b"\x89PNG\r\n\x1a\n", b"II*\0"],
)
def test_what_is_no_picture(content):
  assert refusal(content).endswith(
    ("PNG, JPEG, WEBP, GIF, BMP", "damaged or cut short")
  )


def test_other_formats_are_named():
  content = stored(noise(8, 8, 3), "tiff")
  assert "allowed are PNG, JPEG" in refusal(content)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif", "bmp"])
def test_truncated_files(format):
  content = stored(noise(40, 40, 3), format)
  for part in (0.3, 0.6, 0.9):
    refusal(content[: int(part * len(content))])


@pytest.mark.parametrize(
  "width, height", [(7072, 7072), (10_000, 10_000), (2**31 - 1, 2**31 - 1)]
)
def test_huge_dimensions_are_refused_by_the_header(width, height):
  assert "more than 50 million pixels" in refusal(png_of_size(width, height))


def test_large_pictures_are_read():
  # Above Pillow's own limit for one side, below the limit of pixels.
  content = stored(Image.new("1", (49_000, 1000), 1))
  np.testing.assert_array_equal(read(content), np.full((8, 8, 3), 255))


def test_large_files_are_refused_unread(tmp_path):
  content = stored(noise(8, 8, 3)) + bytes(photos.MAX_BYTES)
  assert "larger than 20 MB" in refusal(content)
  (tmp_path / "me.png").write_bytes(content)
  with pytest.raises(errors.DataError, match="me.png is larger than 20 MB"):
    photos.load(tmp_path / "me.png", (8, 8, 3))


def test_texts_that_unfold():
  # 100 MB in a chunk of 100 kB.
  unfolding = b"Comment\0\0" + zlib.compress(b" " * 100_000_000)
  content = stored(noise(8, 8, 3))
  head, rest = content[:33], content[33:]
  refusal(head + chunk(b"zTXt", unfolding) + rest)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif", "bmp"])
def test_damage_anywhere_is_answered(format):
  exif = Image.Exif()
  exif[0x0112] = 6
  exif[0x010E] = "a face"
  content = stored(noise(16, 16, 3), format, exif=exif.tobytes())
  rng = np.random.default_rng(0)
  for _ in range(60):
    damaged = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(damaged), 4)
    damaged[places] = rng.integers(0, 256, 4)
    try:
      found = read(damaged.tobytes())
    except errors.DataError as error:
      assert "\n" not in str(error)
    else:
      assert found.shape == (8, 8, 3)


def test_from_many_threads():
  contents = [stored(np.full((9, 9, 3), i, np.uint8)) for i in range(20)]
  filters = list(warnings.filters)
  with futures.ThreadPoolExecutor(8) as pool:
    for i, found in enumerate(pool.map(read, contents)):
      np.testing.assert_array_equal(found, np.full((8, 8, 3), i))
  assert list(warnings.filters) == filters


def test_files(tmp_path):
  image = noise(8, 8, 3)
  path = tmp_path / "own.png"
  cv2.imwrite(str(path), image[..., ::-1])
  np.testing.assert_array_equal(photos.load(path, (8, 8, 3)), image)
  with pytest.raises(errors.DataError, match="cannot be read: Is a directory"):
    photos.load(tmp_path, (8, 8, 3))
