"""Grids of images, tiled pixel by pixel.

Every pixel becomes a square of `scale * scale` pixels of the same value,
whereas a plotting library would resample the images.
"""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import ImageDraw, ImageFont

from vae_jax.figures import png, tiles


def image_grid(
  images: UInt8[np.ndarray, "n h w c"],
  path: epath.PathLike | None = None,
  *,
  columns: int = 10,
  scale: int | None = None,
  title: str = "",
) -> UInt8[np.ndarray, "grid_h grid_w c"]:
  """Draws images row by row, separated by thin white gaps.

  Image `i` starts at row `gap + (i // columns) * (h * scale + gap)` and column
  `gap + (i % columns) * (w * scale + gap)` with a gap of 2 pixels; unused cells
  of the last row stay white.

  Args:
    images: Gray (c = 1) or RGB (c = 3), in 0..255.
    columns: Images per row; fewer images make one shorter row.
    scale: Pixels per side that each pixel becomes; None brings the longer
      side of the grid close to 1,000 pixels.
    title: A line of text above, which moves all rows down.

  Raises:
    ValueError: If `images` is empty or neither gray nor RGB `uint8`, or if
      `columns` or `scale` is below 1.
  """
  tiles.check("images", images, columns=columns, scale=scale)
  columns = min(columns, len(images))
  scale = scale or tiles.fitting_scale(
    images, columns, -(-len(images) // columns)
  )
  grid = tiles.tile(images, columns, scale)
  return png.save(tiles.titled(grid, title) if title else grid, path)


def reconstruction_grid(
  originals: UInt8[np.ndarray, "n h w c"],
  reconstructions: UInt8[np.ndarray, "n h w c"],
  path: epath.PathLike | None = None,
  *,
  columns: int = 15,
  scale: int | None = None,
) -> UInt8[np.ndarray, "grid_h grid_w c"]:
  """Draws each original above its reconstruction, in labeled pairs of rows.

  Args:
    originals: Gray (c = 1) or RGB (c = 3), in 0..255.
    reconstructions: In the order of `originals`.
    columns: Images per pair of rows; more images make further pairs.
    scale: As in `image_grid`.

  Raises:
    ValueError: As in `image_grid`, or if the two shapes differ.
  """
  tiles.check("originals", originals, columns=columns, scale=scale)
  tiles.check("reconstructions", reconstructions)
  if originals.shape != reconstructions.shape:
    raise ValueError(
      f"reconstructions has shape {list(reconstructions.shape)}; allowed is "
      f"the shape of originals, {list(originals.shape)}."
    )
  n, *shape = originals.shape
  columns = min(columns, n)
  pairs = -(-n // columns)
  scale = scale or tiles.fitting_scale(originals, columns, 2 * pairs)

  blank = np.full((pairs * columns - n, *shape), tiles.WHITE, np.uint8)
  both = np.stack(
    [np.concatenate([x, blank]) for x in (originals, reconstructions)]
  ).reshape(2, pairs, columns, *shape)
  blocks = [
    tiles.tile(both[:, i].reshape(-1, *shape), columns, scale)
    for i in range(pairs)
  ]
  # Wider than the gap within a pair, so that each pair is seen as one.
  gap = 4 * tiles.GAP
  blocks = [tiles.pad(x, below=gap) for x in blocks[:-1]] + blocks[-1:]

  pitch = shape[0] * scale + tiles.GAP
  font = ImageFont.load_default(min(tiles.FONT_SIZE, pitch))
  labels = ("data", "reconstruction")
  margin = 8 + tiles.text_width(font, *labels) + 8
  image = png.to_image(tiles.pad(np.concatenate(blocks), left=margin))
  draw = ImageDraw.Draw(image)
  for row in range(2 * pairs):
    top = (row // 2) * (2 * pitch + tiles.GAP + gap) + (row % 2) * pitch
    middle = tiles.GAP + top + shape[0] * scale // 2
    draw.text((margin - 8, middle), labels[row % 2], 0, font, anchor="rm")
  return png.save(png.to_array(image), path)


def manifold(
  images: UInt8[np.ndarray, "n h w c"],
  path: epath.PathLike | None = None,
  *,
  z1: Sequence[float] | Float[np.ndarray, " columns"],
  z2: Sequence[float] | Float[np.ndarray, " rows"],
  scale: int | None = None,
) -> UInt8[np.ndarray, "grid_h grid_w c"]:
  """Draws images decoded from a 2-D lattice of latents, without gaps.

  Tick labels give the latent coordinates of the centers of the images; labels
  that would touch are left out.

  Args:
    images: n = rows * columns, row by row from the top left; gray (c = 1) or
      RGB (c = 3), in 0..255.
    z1: First latent coordinate of each column, from left to right.
    z2: Second latent coordinate of each row, from top to bottom.
    scale: As in `image_grid`.

  Raises:
    ValueError: As in `image_grid`, or if there are not `len(z1) * len(z2)`
      images.
  """
  tiles.check("images", images, scale=scale)
  if len(images) != len(z1) * len(z2):
    raise ValueError(
      f"images holds {len(images)} images; allowed is len(z2) * len(z1) = "
      f"{len(z2)} * {len(z1)} = {len(z1) * len(z2)}."
    )
  scale = scale or tiles.fitting_scale(images, len(z1), len(z2))
  tile_h, tile_w = images.shape[1] * scale, images.shape[2] * scale
  grid = tiles.tile(images, len(z1), scale, gap=0)

  font = ImageFont.load_default(tiles.FONT_SIZE)
  # Format "z" turns the "-0.00" of a tiny negative number into "0.00".
  ticks1, ticks2 = ([f"{v:z.2f}" for v in z] for z in (z1, z2))
  tick, space = 6, 6
  name_w = tiles.text_width(font, "z[0]", "z[1]")
  width1 = tiles.text_width(font, *ticks1)
  width2 = tiles.text_width(font, *ticks2)
  # The outermost labels reach beyond the grid by at most half their size.
  left = max(space + name_w + 2 * space + width2 + space + tick, width1 // 2)
  below = tick + 3 * space + 2 * tiles.FONT_SIZE
  above, right = tiles.FONT_SIZE // 2 + space, width1 // 2 + space
  grid = tiles.pad(grid, above=above, below=below, left=left, right=right)
  image = png.to_image(grid)
  draw = ImageDraw.Draw(image)

  bottom = above + tile_h * len(z2)
  for i in range(0, len(z1), -(-(width1 + 2 * space) // tile_w)):
    x = left + i * tile_w + tile_w // 2
    draw.line([(x, bottom), (x, bottom + tick - 1)], 0)
    draw.text((x, bottom + tick + space), ticks1[i], 0, font, anchor="mt")
  for i in range(0, len(z2), -(-(tiles.FONT_SIZE + space) // tile_h)):
    y = above + i * tile_h + tile_h // 2
    draw.line([(left - tick, y), (left - 1, y)], 0)
    draw.text((left - tick - space, y), ticks2[i], 0, font, anchor="rm")
  x, y = left + tile_w * len(z1) // 2, above + tile_h * len(z2) // 2
  draw.text((x, grid.shape[0] - space), "z[0]", 0, font, anchor="mb")
  draw.text((space, y), "z[1]", 0, font, anchor="lm")
  return png.save(png.to_array(image), path)
