"""Files of pictures: decoded by Pillow, upright, with all their bits.

The files may come from strangers by way of a web page: sizes are bounded
before a pixel is decoded, and each defect raises a DataError.
"""

import contextlib
import io
import pathlib
import threading
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from vae_jax.data import errors
from vae_jax.data.transform import Transform

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
# Pillow reads many more formats, whose decoders have had security holes.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# A folder on one's own disk may have these too.
FOLDER_FORMATS = (*FORMATS, "TIFF")

# Warning filters belong to the process, not to a thread; one photo at a time
# also bounds the memory.
_LOCK = threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences Pillow, which warns of damaged metadata and large sizes."""
  with _LOCK, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield


def read(
  content: bytes,
  name: str,
  transform: Transform,
  shape: tuple[int, int, int],
  stored: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """Decodes a photo, named in messages, as an image of `shape`; see
  `Transform.photo`.

  Raises:
    DataError: the file is too large, or cannot be decoded as an image.
  """
  if len(content) > MAX_BYTES:
    raise errors.DataError(
      f"{name} is larger than {MAX_BYTES // 10**6} MB, the limit for an image"
    )
  with quiet():
    image = decode(content, name)
  return transform.photo(image, shape, stored)


def load(
  path: pathlib.Path,
  transform: Transform,
  shape: tuple[int, int, int],
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
  return read(content, path.name, transform, shape, stored)


def decode(
  content: bytes, name: str, formats: tuple[str, ...] = FORMATS
) -> Shaped[np.ndarray, "h w c"]:
  """Returns the picture in a file as stored: 1 to 4 channels, the even ones
  with opacity, of 8 or 16 bits or real numbers.

  It is turned upright by its EXIF orientation, palettes and CMYK become RGB,
  and the first frame of an animation is used.

  Raises:
    DataError: it cannot be decoded as an image, or is too large.
  """
  try:
    # This reads the header only.
    image = Image.open(io.BytesIO(content), formats=formats)
    if image.width * image.height > MAX_PIXELS:
      raise Image.DecompressionBombError
    image.load()
    # Without the encoded EXIF, which exif_transpose would encode again: this
    # fails for unusual tags.
    image.getexif()
    image.info.pop("exif", None)
    if image.mode in ("RGB", "RGBA", "LA") and _depth(image, content) == 16:
      image = _color16(image, content)
    else:
      image = _native(ImageOps.exif_transpose(image))
  except errors.DataError:
    raise
  except Exception as error:
    raise errors.DataError(f"{name} {_problem(error, formats)}") from error
  return image if image.ndim == 3 else image[..., None]


def png_depth(content: bytes) -> int:
  """Returns the bits per channel of a PNG file; 0 for other files."""
  return content[24] if content.startswith(b"\x89PNG") else 0


def is_turned(content: bytes) -> bool:
  """Returns whether the EXIF data of a file ask for another orientation."""
  # A search, because opening the file would take longer than decoding it.
  if b"Exif\0\0" not in content[:1024] and b"eXIf" not in content[:1024]:
    return False
  try:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    return image.getexif().get(0x0112, 1) != 1
  except Exception:  # Damaged metadata, which decide nothing.
    return False


def _depth(image: Image.Image, content: bytes) -> int:
  """Returns the bits per channel of a PNG or TIFF in color."""
  if image.format == "TIFF":
    return max(image.tag_v2.get(258, (8,)))
  return png_depth(content)


def _color16(image: Image.Image, content: bytes) -> np.ndarray:
  """Returns a picture of 16 bits per channel, of which Pillow keeps 8."""
  orientation = image.getexif().get(0x0112, 1)
  pixels = cv2.imdecode(
    np.frombuffer(content, np.uint8),
    cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION,
  )
  code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
  pixels = cv2.cvtColor(pixels, code)
  if orientation in (5, 6, 7, 8):
    pixels = pixels.transpose(1, 0, 2)
  rows = -1 if orientation in (3, 4, 7, 8) else 1
  columns = -1 if orientation in (2, 3, 6, 7) else 1
  return pixels[::rows, ::columns]


def _native(image: Image.Image) -> np.ndarray:
  """Returns the pixels, with palettes and CMYK as RGB."""
  if image.mode in ("I", "F") or image.mode.startswith("I;16"):
    pixels = np.asarray(image)
    # Old PNG decoders give 16-bit gray as 32-bit integers.
    if pixels.dtype.kind == "i" and 0 <= pixels.min() <= pixels.max() < 2**16:
      pixels = pixels.astype(np.uint16)
    return pixels
  gray = image.mode in ("1", "L", "LA", "La")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    return np.asarray(image.convert("LA") if gray else image)
  return np.asarray(image.convert("L" if gray else "RGB"))


def _problem(error: Exception, formats: tuple[str, ...]) -> str:
  """Returns what an error of Pillow says about a file."""
  if isinstance(error, Image.UnidentifiedImageError):
    allowed = ", ".join(formats)
    return f"is not an image in an allowed format: allowed are {allowed}"
  if isinstance(error, Image.DecompressionBombError):
    limit = f"{MAX_PIXELS // 10**6} million pixels"
    return f"has more than {limit}, the limit for an image"
  # Its decoders raise errors of many types for damaged files, from EOFError to
  # struct.error.
  return "cannot be decoded: the file is damaged or truncated"
