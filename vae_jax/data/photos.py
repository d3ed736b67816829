"""A person's own picture, brought to what the data set does to its images.

Whatever is read here may come from a stranger by way of a web page: sizes are
bounded before a pixel is decoded, and whatever is wrong is said in a sentence.
"""

import io
import pathlib
import threading
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vae_jax.data import errors, records

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
# Pillow knows many more, with a history of holes that nobody's photo needs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_ORIENTATION = 0x0112  # The tag of EXIF.
_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
# What is done about warnings belongs to the process, not to a thread; and of
# large pictures one at a time is enough for the memory.
_ALONE = threading.Lock()


def read(
  content: bytes,
  name: str,
  shape: tuple[int, int, int],
  *,
  crop: int = 0,
  stored: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """Decodes a picture as an image of the data set.

  It is turned upright as its EXIF says, laid on white where it is transparent,
  cut to the largest centred part that the data set would keep of an image of
  its own, and resized by area. Of an animation it is the first frame.

  Args:
    content: of the file.
    name: of the file, for messages.
    shape: height, width and channels of the model's images.
    crop: side of the centred square that the data set cuts out of its images,
      pixels; 0: none.
    stored: height and width of these images before they are cut, pixels; None:
      unknown, then the photo's whole centre is taken.

  Raises:
    DataError: the file is too large, or no picture that can be read.
  """
  if len(content) > MAX_BYTES:
    raise errors.DataError(
      f"{name} is larger than {MAX_BYTES // 10**6} MB, the most that is read "
      "of a picture"
    )
  with _ALONE, warnings.catch_warnings():
    # Of damaged metadata and large sizes, which are judged here.
    warnings.simplefilter("ignore")
    try:
      image = _decoded(content, name)
      part = _part(image.size[::-1], shape, crop, stored)
      return records.fit(_on_white(image, part), shape)
    except errors.DataError:
      raise
    except Image.UnidentifiedImageError as error:
      raise errors.DataError(
        f"{name} is no picture that can be read: allowed are "
        f"{', '.join(FORMATS)}"
      ) from error
    except Image.DecompressionBombError as error:
      raise errors.DataError(_too_large(name)) from error
    except Exception as error:
      # Pillow has no error of its own for damage: whatever its decoders
      # stumble over comes out, from EOFError to struct.error.
      raise errors.DataError(
        f"{name} cannot be decoded: the file is damaged or cut short"
      ) from error


def load(
  path: pathlib.Path,
  shape: tuple[int, int, int],
  *,
  crop: int = 0,
  stored: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """Reads a picture from a file; see `read`.

  Raises:
    DataError: as `read`, or the file cannot be opened.
  """
  try:
    with path.open("rb") as file:
      content = file.read(MAX_BYTES + 1)
  except OSError as error:
    raise errors.DataError(
      f"{path} cannot be read: {error.strerror}"
    ) from error
  return read(content, path.name, shape, crop=crop, stored=stored)


def _too_large(name: str) -> str:
  return (
    f"{name} has more than {MAX_PIXELS // 10**6} million pixels, the most that "
    "are read of a picture"
  )


def _decoded(content: bytes, name: str) -> Image.Image:
  """Returns the picture upright."""
  # Only the header is read here.
  image = Image.open(io.BytesIO(content), formats=FORMATS)
  if image.width * image.height > MAX_PIXELS:
    raise errors.DataError(_too_large(name))
  image.load()
  turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION))
  return image if turn is None else image.transpose(turn)


def _part(
  size: tuple[int, int],
  shape: tuple[int, int, int],
  crop: int,
  stored: tuple[int, int] | None,
) -> tuple[int, int]:
  """Returns height and width of what is kept of a photo of some size.

  An image of the data set's own proportions, as large as fits into the photo,
  loses as much of it as the data set's images do.
  """
  kept = (crop, crop) if crop else shape[:2]
  whole = stored if crop and stored else kept
  scale = min(size[0] / whole[0], size[1] / whole[1])
  height, width = (max(1, round(side * scale)) for side in kept)
  return height, width


def _on_white(
  image: Image.Image, part: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns the centred part of a picture in RGB, without transparency."""
  top, left = (
    (a - b) // 2 for a, b in zip(image.size[::-1], part, strict=True)
  )
  image = image.crop((left, top, left + part[1], top + part[0]))
  if image.mode.startswith("I"):
    # 16 bits of grey, which Pillow would not scale but clip.
    levels = np.asarray(image).astype(np.uint32)
    image = Image.fromarray(np.round(levels / 257).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert("RGB"))
