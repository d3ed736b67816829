"""Grids of images side by side, each under a title."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import ImageDraw, ImageFont

from vae_jax.figures import image_grid, png

_FONT_SIZE = 16
_APART = 16  # Pixels between panels, and around all of them.
_WIDTH = 1000  # Pixels that the widest row is scaled towards.


class Panel(NamedTuple):
  """A grid of images and what it shows.

  Attributes:
    title: one line.
    images: uint8 [n h w c], grey (c = 1) or RGB (c = 3).
    columns: images in a row of the grid.
  """

  title: str
  images: UInt8[np.ndarray, "n h w c"]
  columns: int


def panels(
  rows: Sequence[Sequence[Panel]],
  path: epath.PathLike | None = None,
  *,
  scale: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
  """Draws rows of titled grids of images.

  Args:
    rows: from the top, each from the left.
    path: Where to write the PNG; None only draws.
    scale: Pixels per side that each pixel becomes; None brings the widest row
      close to 1,000 pixels.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If there is no panel, or one of them cannot be drawn.
  """
  if not any(rows):
    raise ValueError("There is no panel; allowed is at least one.")
  if scale is None:
    widest = max(
      sum(panel.columns * panel.images.shape[2] for panel in row)
      for row in rows
    )
    scale = max(1, round(_WIDTH / widest))
  font = ImageFont.load_default(_FONT_SIZE)
  drawn = [[_draw(panel, scale, font) for panel in row] for row in rows]
  lines = [_joined(row, axis=1) for row in drawn]
  picture = np.pad(
    _joined(lines, axis=0),
    ((_APART, _APART), (_APART, _APART), (0, 0)),
    constant_values=255,
  )
  png.save(picture, path)
  return picture


def _draw(panel, scale, font):
  """Returns a grid, in RGB, below its title."""
  grid = image_grid.image_grid(
    panel.images, None, columns=panel.columns, scale=scale
  )
  grid = np.broadcast_to(grid, (*grid.shape[:2], 3))
  above = _FONT_SIZE + _FONT_SIZE // 2
  right = max(0, int(np.ceil(font.getlength(panel.title))) - grid.shape[1])
  grid = np.pad(grid, ((above, 0), (0, right), (0, 0)), constant_values=255)
  image = png.to_image(np.ascontiguousarray(grid))
  ImageDraw.Draw(image).text((2, 0), panel.title, (0, 0, 0), font)
  return png.to_array(image)


def _joined(pictures, axis):
  """Returns pictures one after the other along an axis, white between them."""
  across = 1 - axis
  size = max(picture.shape[across] for picture in pictures)
  padded = []
  for i, picture in enumerate(pictures):
    widths = [(0, 0), (0, 0), (0, 0)]
    widths[across] = (0, size - picture.shape[across])
    widths[axis] = (_APART if i else 0, 0)
    padded.append(np.pad(picture, widths, constant_values=255))
  return np.concatenate(padded, axis)
