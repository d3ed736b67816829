"""Matrices as labeled heat maps."""

from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from vae_jax.figures import canvas

_SMALL, _LARGE = 8, 12  # Font sizes of names and numbers; of the title.
_LETTER = 0.65 / 72  # Width of a letter, inches per point of font size.
_CELL = 0.38, 0.24  # Width and height with room for a number, inches.
_MAX_LARGE_CELLS = 72  # Rows or columns up to which cells have this size.


def heat_map(
  values: Float[np.ndarray, "rows columns"],
  path: epath.PathLike | None = None,
  *,
  row_names: Sequence[str],
  column_names: Sequence[str],
  title: str,
  limit: int | float | None = None,
  signed: bool = False,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws a matrix of values, darker the further from 0.

  Up to 72 rows and columns, cells show their values with two decimals; with
  more, cells shrink, and numbers and some of the names are left out.

  Args:
    values: Non-finite values stay blank.
    row_names: One for each row, from the top.
    column_names: One for each column, from the left.
    title: Quantity and unit of the values.
    limit: Value of the darkest color; None takes the largest value.
    signed: Whether values below 0 have their own color.

  Raises:
    ValueError: If the matrix is empty, or the names are not one for each row
      and column.
  """
  if not values.size:
    raise ValueError(
      f"values is {list(values.shape)}; allowed is at least one row and column."
    )
  if (len(row_names), len(column_names)) != values.shape:
    raise ValueError(
      f"row_names and column_names are {len(row_names)} and "
      f"{len(column_names)} names; allowed is one for each row and column of "
      f"values, {list(values.shape)}."
    )
  rows, columns = values.shape
  shown = np.ma.masked_invalid(values)
  limit = limit or float(abs(shown).max() if shown.count() else 0) or 1.0
  # Cells that share the space of one with a number.
  across, down = (max(1.0, n / _MAX_LARGE_CELLS) for n in (columns, rows))
  letter = _SMALL * _LETTER
  below = letter * max(map(len, column_names))
  upright = below > _CELL[0] / across
  width = _CELL[0] / across * columns + letter * max(map(len, row_names)) + 1.2
  height = _CELL[1] / down * rows + (below if upright else 0.2) + 0.6
  width = max(width, len(title) * _LARGE * _LETTER + 0.4)
  height = max(height, 2.0)
  figure = canvas.new_figure(width, height)
  ax = figure.add_subplot()
  colormap, low = ("RdBu", -limit) if signed else ("Blues", 0)
  image = ax.imshow(shown, cmap=colormap, vmin=low, vmax=limit, aspect="auto")
  # Over the figure, not the axes, because it may be wider than these.
  figure.suptitle(title, fontsize=_LARGE)
  figure.colorbar(image, pad=0.02, fraction=0.2 / width, aspect=height / 0.2)
  every = int(np.ceil(across))
  ax.set_xticks(range(0, columns, every), column_names[::every])
  ax.tick_params(axis="x", labelrotation=90 if upright else 0)
  every = int(np.ceil(down))
  ax.set_yticks(range(0, rows, every), row_names[::every])
  ax.tick_params(labelsize=_SMALL, length=2)
  if across == down == 1:
    for (i, j), value in np.ndenumerate(shown):
      if not np.isfinite(value):
        continue
      color = "white" if abs(value) > 0.6 * limit else "0.15"
      style = {"size": _SMALL - 1, "color": color, "ha": "center"}
      ax.text(j, i, f"{value:z.2f}", va="center", **style)
  return canvas.render(figure, path)
