"""Photos of users, converted to images of the data set.

The files may come from strangers by way of a web page: sizes are bounded
before a pixel is decoded, and each defect raises a DataError.
"""

import io
import pathlib
import threading
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vae_jax.data import errors, records

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
# Pillow reads many more formats, whose decoders have had security holes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

# Warning filters belong to the process, not to a thread; one photo at a time
# also bounds the memory.
_LOCK = threading.Lock()


def read(
  content: bytes,
  name: str,
  shape: tuple[int, int, int],
  *,
  crop: int = 0,
  stored: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """Decodes a photo, named in messages, as an image of the data set.

  The photo is turned upright by its EXIF orientation, blended with white where
  it is transparent, cropped to the largest centered part that the data set
  would keep of an image of its own, and resized by area. The first frame of an
  animation is used.

  Args:
    content: of the file.
    name: of the file.
    shape: (h, w, c) of the result.
    crop: side of the data set's center crop, pixels; 0 = none.
    stored: height and width of the data set's images before the crop, pixels;
      None = unknown, then the largest center of the photo is used.

  Raises:
    DataError: the file is too large, or cannot be decoded as an image.
  """
  if len(content) > MAX_BYTES:
    raise errors.DataError(
      f"{name} is larger than {MAX_BYTES // 10**6} MB, the limit for an image"
    )
  with _LOCK, warnings.catch_warnings():
    # Pillow warns of damaged metadata and large sizes, which are checked here.
    warnings.simplefilter("ignore")
    try:
      image = _decode(content)
      part = _part(image.size[::-1], shape, crop, stored)
      return records.fit(_on_white(image, part), shape)
    except Exception as error:
      raise errors.DataError(f"{name} {_problem(error)}") from error


def _problem(error: Exception) -> str:
  """Returns what an error of Pillow says about a file."""
  if isinstance(error, Image.UnidentifiedImageError):
    allowed = ", ".join(FORMATS)
    return f"is not an image in an allowed format: allowed are {allowed}"
  if isinstance(error, Image.DecompressionBombError):
    limit = f"{MAX_PIXELS // 10**6} million pixels"
    return f"has more than {limit}, the limit for an image"
  # Its decoders raise errors of many types for damaged files, from EOFError to
  # struct.error.
  return "cannot be decoded: the file is damaged or truncated"


def load(
  path: pathlib.Path,
  shape: tuple[int, int, int],
  *,
  crop: int = 0,
  stored: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """Reads a photo from a file; see `read`.

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


def _decode(content: bytes) -> Image.Image:
  """Returns the photo, upright."""
  # This reads the header only.
  image = Image.open(io.BytesIO(content), formats=FORMATS)
  if image.width * image.height > MAX_PIXELS:
    raise Image.DecompressionBombError
  image.load()
  # Without the encoded EXIF, which exif_transpose would encode again: this
  # fails for unusual tags.
  image.getexif()
  image.info.pop("exif", None)
  return ImageOps.exif_transpose(image)


def _part(
  size: tuple[int, int],
  shape: tuple[int, int, int],
  crop: int,
  stored: tuple[int, int] | None,
) -> tuple[int, int]:
  """Returns height and width of the part of a photo to keep.

  The largest rectangle with the proportions of the data set's stored images
  that fits into the photo is cropped by the same share as those are.
  """
  target = (crop, crop) if crop else shape[:2]
  full = stored if crop and stored else target
  scale = min(size[0] / full[0], size[1] / full[1])
  height, width = (max(1, round(side * scale)) for side in target)
  return height, width


def _on_white(
  image: Image.Image, part: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns the centered part of a photo in RGB, on a white background."""
  top, left = (
    (a - b) // 2 for a, b in zip(image.size[::-1], part, strict=True)
  )
  image = image.crop((left, top, left + part[1], top + part[0]))
  if image.mode.startswith("I"):
    # Scaled here, because Pillow clips 16-bit gray instead.
    levels = np.asarray(image).astype(np.uint32)
    image = Image.fromarray(np.round(levels / 257).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return np.asarray(image.convert("RGB"))
