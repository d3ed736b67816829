"""Photos of users: pixel values, for each way of storing them."""

import io
import struct
import warnings
import zlib
from concurrent import futures

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from vae_jax.data import errors, photos
from vae_jax.data.transform import Transform

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def stored(image, format="png", **options):
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, format, **options)
  return buffer.getvalue()


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def read(content, shape=(8, 8, 3), stored="shape", **settings):
  how = Transform(**settings)
  size = shape[:2] if stored == "shape" else stored
  return photos.read(content, "me.png", how, shape, size)


def full(color, size=8):
  return np.full((size, size, 3), color, np.uint8)


def chunk(kind, content):
  body = kind + content
  length, checksum = len(content), zlib.crc32(body)
  return struct.pack(">I", length) + body + struct.pack(">I", checksum)


def png_of_size(width, height):
  """Returns a PNG file with a header and hardly any data."""
  head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0" * 99))
  return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def nothing_leaks(recwarn):
  yield
  assert not recwarn.list


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
  "size, crop, resize",
  [(p, c, 8) for p in ((21, 17), (17, 21)) for c in (0, 14, (5, 16))]
  + [((21, 17), 9, (3, 8)), ((9, 9), 5, 0), ((8, 8), 0, 0)],
)
def test_photo_is_transformed_as_the_images_of_the_data_set(
  size, crop, resize, channels
):
  image = noise(*size, 3)
  how = {"crop": crop, "resize": resize, "grayscale": channels == 1}
  expected = Transform(**how)(image)
  # Whether all images have its size or not.
  for known in (size, None):
    result = read(stored(image), expected.shape, stored=known, **how)
    assert_array_equal(result, expected)


def test_crop_keeps_the_same_part_at_any_size():
  # The data set keeps rows 4..12 and columns 2..10 of 16 x 12 pixels.
  photo = np.zeros((48, 100, 3), np.uint8)
  photo[12:36, 38:62] = RED
  result = read(stored(photo), (8, 8, 3), crop=8, stored=(16, 12))
  assert_array_equal(result, full(RED))
  # So many pixels, because the stored sizes vary.
  photo[24 - 4 : 24 + 4, 50 - 4 : 50 + 4] = noise(8, 8, 3)
  part = read(stored(photo), (8, 8, 3), crop=8, stored=None)
  assert_array_equal(part, noise(8, 8, 3))
  with pytest.raises(
    errors.DataError, match="crop=50 is larger than the image"
  ):
    read(stored(photo), (8, 8, 3), crop=50, stored=None)


@pytest.mark.parametrize("axis", [0, 1])
def test_largest_center_of_the_proportions_is_kept(axis):
  square = noise(8, 8, 3)
  sides = np.zeros_like(square)
  photo = np.concatenate([sides, square, sides], axis)
  assert_array_equal(read(stored(photo)), square)


def test_shrinking_takes_the_mean_of_each_area():
  image = noise(12, 6, 3)
  wide = np.concatenate([np.zeros_like(image), image, np.zeros_like(image)], 1)
  for shape, content, part in (
    ((6, 3, 3), wide, image),
    ((8, 8, 3), noise(64, 64, 3), noise(64, 64, 3)),
  ):
    height, width = shape[:2]
    means = part.reshape(height, len(part) // height, width, -1, 3).mean((1, 3))
    assert_allclose(read(stored(content), shape), means, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_exif_orientation_turns_the_photo_upright(format, orientation):
  # Sides of the upright image that are the first row and column of the stored
  # one; EXIF 2.32, table of tag 0x0112.
  sides = (
    "top left, top right, bottom right, bottom left, left top, right top, "
    "right bottom, left bottom"
  ).split(", ")
  first_row, first_column = sides[orientation - 1].split()
  photo = np.zeros((32, 32, 3), np.uint8)
  photo[:8] += full(RED, 1)[0]
  photo[:, :8] += full(BLUE, 1)[0]
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {"webp": {"lossless": True}, "jpeg": {"quality": 100}, "png": {}}
  content = stored(photo, format, exif=exif.tobytes(), **options[format])
  result = read(content, (32, 32, 3)).astype(int)
  for name, edge in {
    "top": result[:4, 12:20],
    "bottom": result[-4:, 12:20],
    "left": result[12:20, :4],
    "right": result[12:20, -4:],
  }.items():
    expected = np.zeros(3)
    expected += RED if name == first_row else 0
    expected += BLUE if name == first_column else 0
    color = edge.mean(axis=(0, 1))
    assert_allclose(color, expected, atol=12, err_msg=name)


@pytest.mark.parametrize("channels, mode", [(4, "RGBA"), (2, "LA")])
def test_transparent_pixels_are_blended_with_white(channels, mode):
  image = noise(8, 8, channels)
  colors, opacity = image[..., :-1], image[..., -1:] / 255
  expected = colors * opacity + 255 * (1 - opacity)
  result = read(stored(Image.fromarray(image, mode)), (8, 8, channels - 1))
  assert_allclose(result, expected, atol=1.01)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_transparent_color_becomes_white(mode):
  image = Image.new("RGB", (8, 8), "white")
  image.paste((0, 0, 0), (0, 0, 4, 8))
  image = image.convert(mode)
  black = image.getpixel((0, 0))
  result = read(stored(image, transparency=black), (8, 8, 1))
  assert_array_equal(result, np.full((8, 8, 1), 255))
  opaque = read(stored(image), (8, 8, 1))
  assert (opaque[:, :4] == 0).all() and (opaque[:, 4:] == 255).all()


@pytest.mark.parametrize("format", ["gif", "png", "bmp"])
def test_palette_is_applied(format):
  corners = np.array([[RED, GREEN], [BLUE, RED]], np.uint8)
  image = Image.fromarray(corners.repeat(4, 0).repeat(4, 1))
  assert_array_equal(read(stored(image.quantize(8), format)), np.asarray(image))


def test_gray_and_color_are_converted():
  gray, color = noise(8, 8), noise(8, 8, 3)
  repeated = np.repeat(gray[..., None], 3, 2)
  assert_array_equal(read(stored(gray), (8, 8, 3)), repeated)
  luma = color @ np.array([0.299, 0.587, 0.114])
  levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
  for image, expected, atol in (
    (gray, gray, 0),
    (color, luma, 0.51),
    # 16 bits are scaled.
    (levels, np.round(levels / 257), 0),
  ):
    result = read(stored(image), (8, 8, 1))[..., 0]
    assert_allclose(result, expected, rtol=0, atol=atol)
  image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
  result = read(stored(image, "jpeg", quality=100), (16, 16, 3))
  assert_allclose(result, full(RED, 16), atol=3)


def test_tiny_images_are_enlarged():
  assert_array_equal(read(stored(full(RED, 1))), full(RED))
  result = read(stored(noise(2, 300, 3)), crop=4, stored=(20, 6))
  assert result.shape == (8, 8, 3)


def test_animation_gives_its_first_frame():
  frames = [Image.new("RGB", (8, 8), c) for c in (RED, BLUE)]
  for format in ("gif", "webp", "png"):
    options = {"lossless": True} if format == "webp" else {}
    options |= {"save_all": True, "append_images": frames[1:]}
    assert_array_equal(read(stored(frames[0], format, **options)), full(RED))


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
def test_other_content_is_refused(content):
  assert refusal(content).endswith(
    ("PNG, JPEG, WEBP, GIF, BMP", "damaged or truncated")
  )
  assert "allowed are PNG, JPEG" in refusal(stored(noise(8, 8, 3), "tiff"))


@pytest.mark.parametrize(
  "width, height", [(7072, 7072), (10_000, 10_000), (2**31 - 1, 2**31 - 1)]
)
def test_huge_dimensions_are_refused_by_the_header(width, height):
  assert "more than 50 million pixels" in refusal(png_of_size(width, height))


def test_large_images_are_read():
  # Above Pillow's limit for one side, below the limit of pixels.
  content = stored(Image.new("1", (49_000, 1000), 1))
  assert_array_equal(read(content), full(255))


def test_large_files_are_refused_unread(tmp_path):
  content = stored(noise(8, 8, 3)) + bytes(photos.MAX_BYTES)
  assert "larger than 20 MB" in refusal(content)
  (tmp_path / "me.png").write_bytes(content)
  with pytest.raises(errors.DataError, match="me.png is larger than 20 MB"):
    photos.load(tmp_path / "me.png", Transform(), (8, 8, 3))


def test_decompression_bomb_in_a_text_is_refused():
  # A chunk of 100 kB that expands to 100 MB.
  bomb = b"Comment\0\0" + zlib.compress(b" " * 100_000_000)
  content = stored(noise(8, 8, 3))
  head, rest = content[:33], content[33:]
  refusal(head + chunk(b"zTXt", bomb) + rest)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "gif", "bmp"])
def test_damage_anywhere_raises_a_data_error_or_nothing(format):
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
      result = read(damaged.tobytes())
    except errors.DataError as error:
      assert "\n" not in str(error)
    else:
      assert result.shape == (8, 8, 3)
  content = stored(noise(40, 40, 3), format)
  for part in (0.3, 0.6, 0.9):
    refusal(content[: int(part * len(content))])


def test_threads_share_no_state():
  contents = [stored(full(i, 9)) for i in range(20)]
  filters = list(warnings.filters)
  with futures.ThreadPoolExecutor(8) as pool:
    for i, result in enumerate(pool.map(read, contents)):
      assert_array_equal(result, full(i))
  assert list(warnings.filters) == filters


def test_file_is_read(tmp_path):
  image = noise(8, 8, 3)
  path = tmp_path / "own.png"
  path.write_bytes(stored(image))
  assert_array_equal(photos.load(path, Transform(), (8, 8, 3)), image)
  with pytest.raises(errors.DataError, match="cannot be read: Is a directory"):
    photos.load(tmp_path, Transform(), (8, 8, 3))
