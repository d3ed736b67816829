"""Building blocks of pictures made of images: squares, gaps and labels."""

import numpy as np
from jaxtyping import UInt8
from PIL import ImageDraw, ImageFont

from vae_jax.figures import png

WHITE = 255
GAP = 2  # Pixels between neighboring images.
FONT_SIZE = 16
_GRID_SIZE = 1000  # Pixels that the longer side of a grid is scaled towards.


def check(
  name: str, images: np.ndarray, *, columns: int = 1, scale: int | None = None
) -> None:
  """Checks that images can be tiled.

  Raises:
    ValueError: If `images` is empty or neither gray nor RGB `uint8`, or if
      `columns` or `scale` is below 1.
  """
  if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
    raise ValueError(
      f"{name} is {images.dtype}{list(images.shape)}; allowed is "
      "uint8[n h w c] with at least one image."
    )
  if images.shape[-1] not in (1, 3):
    raise ValueError(
      f"{name} has {images.shape[-1]} channels; allowed is 1 (gray) or 3 (RGB)."
    )
  if columns < 1:
    raise ValueError(f"columns is {columns}; allowed is 1 or more.")
  if scale is not None and scale < 1:
    raise ValueError(f"scale is {scale}; allowed is None, 1 or more.")


def fitting_scale(
  images: UInt8[np.ndarray, "n h w c"], columns: int, rows: int
) -> int:
  """Returns the scale that brings a grid's longer side close to 1,000."""
  _, h, w, _ = images.shape
  return max(1, round(_GRID_SIZE / max(columns * w, rows * h)))


def enlarge(
  images: UInt8[np.ndarray, "n h w c"], scale: int
) -> UInt8[np.ndarray, "n h2 w2 c"]:
  """Returns images with each pixel as a square of `scale * scale` pixels."""
  return images.repeat(scale, axis=1).repeat(scale, axis=2)


def tile(
  images: UInt8[np.ndarray, "n h w c"],
  columns: int,
  scale: int,
  *,
  gap: int = GAP,
) -> UInt8[np.ndarray, "grid_h grid_w c"]:
  """Returns enlarged images row by row, with white gaps around each."""
  tiles = enlarge(images, scale)
  n, h, w, c = tiles.shape
  rows = -(-n // columns)
  shape = (rows * (h + gap) + gap, columns * (w + gap) + gap, c)
  canvas = np.full(shape, WHITE, np.uint8)
  for i, image in enumerate(tiles):
    row, column = divmod(i, columns)
    top, left = gap + row * (h + gap), gap + column * (w + gap)
    canvas[top : top + h, left : left + w] = image
  return canvas


def pad(
  picture: UInt8[np.ndarray, "h w c"],
  *,
  above: int = 0,
  below: int = 0,
  left: int = 0,
  right: int = 0,
) -> UInt8[np.ndarray, "h2 w2 c"]:
  """Returns a picture with white margins."""
  widths = ((above, below), (left, right), (0, 0))
  return np.pad(picture, widths, constant_values=WHITE)


def titled(
  picture: UInt8[np.ndarray, "h w c"], title: str
) -> UInt8[np.ndarray, "h2 w2 c"]:
  """Returns a picture below a line of text, wider where the text is."""
  font = ImageFont.load_default(FONT_SIZE)
  right = max(0, text_width(font, title) - picture.shape[1])
  image = png.to_image(pad(picture, above=FONT_SIZE * 3 // 2, right=right))
  ImageDraw.Draw(image).text((2, 0), title, 0, font)
  return png.to_array(image)


def text_width(font: ImageFont.FreeTypeFont, *texts: str) -> int:
  """Returns the width of the widest of some texts, pixels."""
  return int(np.ceil(max(font.getlength(text) for text in texts)))
