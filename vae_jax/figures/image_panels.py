"""Grids of images side by side, each under a title."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8

from vae_jax.figures import png, tiles

_GAP = 16  # Pixels between panels, and around all of them.
_WIDTH = 1000  # Pixels that the widest row is scaled towards.


class Panel(NamedTuple):
  """A grid of gray (c = 1) or RGB (c = 3) images, under a title of one line."""

  title: str
  images: UInt8[np.ndarray, "n h w c"]
  columns: int


def image_panels(
  rows: Sequence[Sequence[Panel]],
  path: epath.PathLike | None = None,
  *,
  scale: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
  """Draws rows of titled grids of images.

  Args:
    rows: From the top, each from the left.
    scale: Pixels per side that each pixel becomes; None brings the widest row
      close to 1,000 pixels.

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
  lines = [_joined([_draw(p, scale) for p in row], axis=1) for row in rows]
  margins = {"above": _GAP, "below": _GAP, "left": _GAP, "right": _GAP}
  return png.save(tiles.pad(_joined(lines, axis=0), **margins), path)


def _draw(panel: Panel, scale: int) -> UInt8[np.ndarray, "h w 3"]:
  """Returns a grid, in RGB, below its title."""
  tiles.check(panel.title, panel.images, columns=panel.columns, scale=scale)
  columns = min(panel.columns, len(panel.images))
  grid = tiles.tile(panel.images, columns, scale)
  image = png.to_image(tiles.titled(grid, panel.title))
  return png.to_array(image.convert("RGB"))


def _joined(
  pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], axis: int
) -> UInt8[np.ndarray, "_ _ 3"]:
  """Concatenates pictures along an axis, with white gaps between them."""
  size = max(picture.shape[1 - axis] for picture in pictures)
  gap, end = ("above", "right") if axis == 0 else ("left", "below")
  padded = []
  for i, picture in enumerate(pictures):
    widths = {gap: _GAP if i else 0, end: size - picture.shape[1 - axis]}
    padded.append(tiles.pad(picture, **widths))
  return np.concatenate(padded, axis)
