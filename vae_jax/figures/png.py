"""Pictures as arrays, as Pillow images and as files."""

import io

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from vae_jax.runtime import storage


def to_image(picture: UInt8[np.ndarray, "h w c"]) -> Image.Image:
  """Turns a grey (c = 1) or RGB (c = 3) array into a Pillow image."""
  return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def to_array(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
  """Turns a Pillow image into an array, the inverse of `to_image`."""
  array = np.array(image)
  return array if array.ndim == 3 else array[..., None]


def save(
  picture: UInt8[np.ndarray, "h w c"], path: epath.PathLike | None
) -> None:
  """Writes a picture as PNG, whole or not at all.

  Args:
    picture: `[h w c]`, grey (c = 1) or RGB (c = 3), in 0..255.
    path: The file to write or replace, with the folders it needs; None writes
      nothing.
  """
  if path is None:
    return
  # Encoded before the folder is touched, so that an error leaves no trace.
  encoded = io.BytesIO()
  to_image(picture).save(encoded, "png")
  storage.write_bytes(path, encoded.getvalue())
