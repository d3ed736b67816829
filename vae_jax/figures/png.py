"""Pictures as arrays, as Pillow images and as PNG files."""

import io

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from vae_jax.runtime import storage


def to_image(picture: UInt8[np.ndarray, "h w c"]) -> Image.Image:
  """Turns a gray (c = 1), RGB (3) or RGBA (4) array into a Pillow image."""
  return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def to_array(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
  """Turns a Pillow image into an array, the inverse of `to_image`."""
  array = np.array(image)
  return array if array.ndim == 3 else array[..., None]


def encode(
  picture: UInt8[np.ndarray, "h w c"], *, compress_level: int = 6
) -> bytes:
  """Returns the content of a PNG file.

  Args:
    picture: `[h w c]`, gray (c = 1), RGB (3) or RGBA (4), in 0..255.
    compress_level: 1 (fast) to 9 (small).
  """
  file = io.BytesIO()
  to_image(picture).save(file, "png", compress_level=compress_level)
  return file.getvalue()


def save(
  picture: UInt8[np.ndarray, "h w c"], path: epath.PathLike | None
) -> UInt8[np.ndarray, "h w c"]:
  """Writes a picture as PNG, atomically, and returns it.

  Args:
    picture: As in `encode`.
    path: The file to write or replace; missing folders are made. None writes
      nothing.
  """
  if path is not None:
    # Encoded before the folder is touched, so that an error leaves no trace.
    storage.write_bytes(path, encode(picture))
  return picture
