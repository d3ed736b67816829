"""Rows of images under common headings, such as traversals and edits."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import ImageDraw, ImageFont

from vae_jax.figures import png, tiles

_WIDTH = 1400  # Pixels that the columns together are scaled towards,
_HEIGHT = 2000  # unless the rows together would be higher than this.
_SMALLEST_FONT = 11  # Headings that need a smaller one are left out.
_SPACE = 8  # Pixels around texts.
_GROUP_GAP = 5 * tiles.GAP  # Pixels between groups.


def image_strip(
  rows: Sequence[UInt8[np.ndarray, "n h w c"]],
  row_labels: Sequence[str] = (),
  column_labels: Sequence[str] = (),
  path: epath.PathLike | None = None,
  *,
  leading: int = 0,
  trailing: int = 0,
  groups: Sequence[int] | None = None,
  scale: int | None = None,
  title: str = "",
) -> UInt8[np.ndarray, "strip_h strip_w c"]:
  """Draws rows of images, labeled at the left and above the columns.

  Headings that would touch become smaller, then fewer; headings of leading and
  trailing columns are never left out.

  Args:
    rows: All of one shape, gray (c = 1) or RGB (c = 3), in 0..255.
    row_labels: One for each row, or none at all.
    column_labels: One for each column, or none at all.
    leading: Columns at the left, before a wider gap.
    trailing: Columns at the right, after a wider gap.
    groups: Rows of each group, from the top; gaps between groups are wider.
      None = one group.
    scale: Pixels per side that each pixel becomes; None brings the columns
      close to 1,400 pixels, or the rows to 2,000 if these would be higher.
    title: A line of text above all.

  Raises:
    ValueError: If there is no row, the rows differ in shape or hold no images,
      or labels, groups or columns do not add up.
  """
  groups = [len(rows)] if groups is None else list(groups)
  _check(rows, row_labels, column_labels, leading, trailing, groups, scale)
  n, h, w, c = rows[0].shape
  if scale is None:
    scale = max(1, round(min(_WIDTH / (n * w), _HEIGHT / (len(rows) * h))))
  w, h = w * scale, h * scale

  fixed = [*range(leading), *range(n - trailing, n)]
  middle = range(leading, n - trailing)
  font, shown = _headings(column_labels, middle, w)
  # Fixed columns are as wide as their headings, which are never left out.
  widths = [w] * n
  for i in fixed if column_labels else ():
    widths[i] = max(w, tiles.text_width(font, column_labels[i]) + _SPACE)
  beyond = 0  # Pixels by which a heading reaches beyond its column.
  if shown:
    texts = [column_labels[i] for i in shown]
    beyond = max(0, -(-(tiles.text_width(font, *texts) - w) // 2)) + tiles.GAP

  label_font = ImageFont.load_default(min(tiles.FONT_SIZE, h))
  margin = max(tiles.GAP, 0 if fixed else beyond)
  if any(row_labels):
    margin = 2 * _SPACE + tiles.text_width(label_font, *row_labels)
    margin = max(margin, 0 if leading else beyond)
  # Next to a fixed column, half a heading may need the gap.
  gap = max(_GROUP_GAP, beyond + _SPACE if fixed and column_labels else 0)
  lefts = _places(widths, margin, {leading, n - trailing}, gap)
  starts = set(np.cumsum(groups).tolist())
  header = int(font.size) + 2 * _SPACE if any(column_labels) else tiles.GAP
  tops = _places([h] * len(rows), header, starts, _GROUP_GAP)
  right = max(tiles.GAP, 0 if trailing else beyond)
  shape = (tops[-1] + h + tiles.GAP, lefts[-1] + widths[-1] + right, c)
  canvas = np.full(shape, tiles.WHITE, np.uint8)
  for top, row in zip(tops, rows, strict=True):
    large = tiles.enlarge(row, scale)
    for left, width, image in zip(lefts, widths, large, strict=True):
      left += (width - w) // 2
      canvas[top : top + h, left : left + w] = image

  image = png.to_image(canvas)
  draw = ImageDraw.Draw(image)
  for i in [*fixed, *shown] if column_labels else []:
    place = lefts[i] + widths[i] // 2, header - _SPACE
    draw.text(place, column_labels[i], 0, font, anchor="ms")
  for top, label in zip(tops, row_labels, strict=bool(row_labels)):
    place = margin - _SPACE, top + h // 2
    draw.text(place, label, 0, label_font, anchor="rm")
  strip = png.to_array(image)
  return png.save(tiles.titled(strip, title) if title else strip, path)


def _headings(
  labels: Sequence[str], columns: range, width: int
) -> tuple[ImageFont.FreeTypeFont, list[int]]:
  """Returns the font of the headings, and the columns that have one."""
  font = ImageFont.load_default(tiles.FONT_SIZE)
  if not labels or not columns:
    return font, []
  texts = [labels[i] for i in columns]
  for size in range(tiles.FONT_SIZE, _SMALLEST_FONT - 1, -1):
    smaller = ImageFont.load_default(size)
    if tiles.text_width(smaller, *texts) + _SPACE <= width + tiles.GAP:
      return smaller, list(columns)
  need = tiles.text_width(font, *texts) + _SPACE
  step = -(-need // (width + tiles.GAP))
  # Prefer a step that includes the last column, if one is not much longer.
  for longer in range(step, 2 * step + 1):
    if (len(columns) - 1) % longer == 0:
      return font, list(columns[::longer])
  return font, list(columns[::step])


def _places(
  sizes: Sequence[int], first: int, starts: set[int], gap: int
) -> list[int]:
  """Returns the first pixel of each of `sizes`, with a gap before `starts`."""
  places = [first]
  for i, size in enumerate(sizes[:-1], start=1):
    places.append(places[-1] + size + (gap if i in starts else tiles.GAP))
  return places


def _check(
  rows: Sequence[np.ndarray],
  row_labels: Sequence[str],
  column_labels: Sequence[str],
  leading: int,
  trailing: int,
  groups: Sequence[int],
  scale: int | None,
) -> None:
  if not rows:
    raise ValueError("rows is empty; allowed is at least one row.")
  for i, row in enumerate(rows):
    tiles.check(f"rows[{i}]", row, scale=scale)
    if row.shape != rows[0].shape:
      raise ValueError(
        f"rows[{i}] is {list(row.shape)}; allowed is the shape of the first, "
        f"{list(rows[0].shape)}."
      )
  columns = len(rows[0])
  for name, labels, count in (
    ("row_labels", row_labels, len(rows)),
    ("column_labels", column_labels, columns),
  ):
    if len(labels) not in (0, count):
      raise ValueError(
        f"{name} are {len(labels)}; allowed is {count}, or none at all."
      )
  if min(leading, trailing) < 0 or leading + trailing > columns:
    raise ValueError(
      f"leading is {leading} and trailing {trailing}; allowed is 0 or more, "
      f"together at most the {columns} columns."
    )
  if sum(groups) != len(rows) or min(groups) < 1:
    raise ValueError(
      f"groups is {groups}; allowed are numbers of rows that add up to "
      f"{len(rows)}."
    )
