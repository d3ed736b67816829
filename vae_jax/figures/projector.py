"""Codes for TensorBoard's projector.

The four files are not written by `tensorboardX.add_embedding`, because it
rounds pixels down, leaves the end of the sprite uninitialized, requires square
images, and adds a second entry when it is called again.
"""

import os
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vae_jax.figures import png, tiles
from vae_jax.runtime import storage

_MAX_WIDTH = 8192  # TensorBoard shows no wider sprite, pixels.
_MAX_SIDE = 64  # Of an image in the sprite, pixels.


def write(
  folder: str | os.PathLike[str],
  codes: Float[np.ndarray, "n d"],
  images: UInt8[np.ndarray, "n h w c"],
  columns: Sequence[tuple[str, Iterable[object]]],
) -> None:
  """Writes the files that `tensorboard --logdir=FOLDER` shows as projector.

  Args:
    folder: Folder of the files.
    codes: One point per row.
    images: Shown at the points; their sides shrink to 64 pixels.
    columns: Name and n values of each property of the points.
  """
  folder = storage.path(folder)
  sprite, (height, width) = _sprite(images)
  png.save(sprite, folder / "sprite.png")
  # Nine digits determine a float32.
  rows = ([f"{v:.9g}" for v in code] for code in codes)
  _write_rows(folder / "tensors.tsv", rows)
  names = [name for name, _ in columns]
  # TensorBoard reads a header only above two or more columns.
  rows = [names] if len(names) > 1 else []
  rows += [map(str, row) for row in zip(*(v for _, v in columns), strict=True)]
  _write_rows(folder / "metadata.tsv", rows)
  # Last, because it refers to the others.
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


def _write_rows(path: storage.Path, rows: Iterable[Iterable[str]]) -> None:
  text = "".join("\t".join(row) + "\n" for row in rows)
  storage.write_bytes(path, text.encode())


def _sprite(
  images: UInt8[np.ndarray, "n h w c"],
) -> tuple[UInt8[np.ndarray, "H W c"], tuple[int, int]]:
  """Returns the images in a square, row by row, and (h, w) of each."""
  n, height, width, channels = images.shape
  across = int(np.ceil(np.sqrt(n)))
  side = min(_MAX_SIDE, _MAX_WIDTH // across, max(height, width))
  scale = side / max(height, width)
  height, width = (max(1, round(v * scale)) for v in (height, width))
  if scale < 1:
    size, area = (width, height), cv2.INTER_AREA
    images = np.stack([cv2.resize(i, size, interpolation=area) for i in images])
    images = images.reshape(n, height, width, channels)
  return tiles.tile(images, across, 1, gap=0), (height, width)
