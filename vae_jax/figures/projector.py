"""Codes for TensorBoard's projector, which turns them about in the browser.

Its four files are written here and not by `tensorboardX.add_embedding`, which
rounds pixels down, leaves the end of the sprite as it finds the memory, wants
square images, and adds a second entry when it is called again.
"""

import os
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vae_jax import figures
from vae_jax.runtime import storage

# TensorBoard shows no sprite that is wider.
_WIDEST = 8192
_SIDE = 64  # Longer side of an image in the sprite at most, pixels.


def write(
  folder: str | os.PathLike[str],
  codes: Float[np.ndarray, "n d"],
  images: UInt8[np.ndarray, "n h w c"],
  columns: Sequence[tuple[str, Iterable[object]]],
) -> None:
  """Writes what `tensorboard --logdir=FOLDER` shows as its projector.

  Args:
    folder: where to.
    codes: a point each.
    images: shown at the points, shrunk to 64 pixels or less, side by side in
      one picture, row by row.
    columns: what is known of each point: name and n values.
  """
  folder = storage.path(folder)
  sprite, (height, width) = _sprite(images)
  names = [name for name, _ in columns]
  rows = zip(*(values for _, values in columns), strict=True)
  figures.write_image(sprite, folder / "sprite.png")
  # Nine digits give a float32 back.
  _write_rows(
    folder / "tensors.tsv", ([f"{v:.9g}" for v in code] for code in codes)
  )
  # A single column must not have a head.
  head = [names] if len(names) > 1 else []
  _write_rows(
    folder / "metadata.tsv", [*head, *([str(v) for v in row] for row in rows)]
  )
  # Last: it names the others.
  storage.write_bytes(
    folder / "projector_config.pbtxt",
    f"""embeddings {{
  tensor_name: "codes"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
""".encode(),
  )


def _write_rows(path, rows):
  text = "".join("\t".join(row) + "\n" for row in rows)
  storage.write_bytes(path, text.encode())


def _sprite(images):
  """Returns the images side by side, and (h, w) of each."""
  n, height, width, channels = images.shape
  across = int(np.ceil(np.sqrt(n)))
  side = min(_SIDE, _WIDEST // across, max(height, width))
  scale = side / max(height, width)
  height, width = (max(1, round(v * scale)) for v in (height, width))
  if scale < 1:
    images = np.stack(
      [
        cv2.resize(i, (width, height), interpolation=cv2.INTER_AREA)
        for i in images
      ]
    ).reshape(n, height, width, channels)
  down = -(-n // across)
  # Cells that are left over stay white.
  cells = np.full((down * across, height, width, channels), 255, np.uint8)
  cells[:n] = images
  grid = cells.reshape(down, across, height, width, channels).swapaxes(1, 2)
  return grid.reshape(down * height, across * width, channels), (height, width)
