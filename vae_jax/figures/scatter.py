"""Codes in a plane, one panel for each way to colour them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Integer, UInt8

from vae_jax.figures import canvas, png

_ACROSS = 3  # Panels side by side.
_LEGEND_ROWS = 30


class Coloring(NamedTuple):
  """What a panel shows of each point.

  Attributes:
    title: of the panel.
    labels: whole numbers [n], or None for one colour.
    names: of the labels 0, 1, ..., for the legend.
  """

  title: str
  labels: Integer[np.ndarray, " n"] | None = None
  names: Sequence[str] = ()


def embedding(
  points: Float[np.ndarray, "n 2"],
  colorings: Sequence[Coloring],
  path: epath.PathLike | None = None,
  *,
  title: str,
  x_label: str,
  y_label: str,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws points of a plane, once for each of some ways to colour them.

  Labels that no point has are left out of the legend.

  Args:
    points: `[n 2]`, in the units of the axes.
    colorings: one for each panel; three panels make a row.
    path: Where to write the PNG; None only draws.
    title: of the whole picture.
    x_label: of the first coordinate, with its unit if it has one.
    y_label: of the second coordinate.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If there is no point or no panel, or the labels are not one for
      each point, or one of them has no name.
  """
  if not len(points) or not colorings:
    raise ValueError(
      f"There are {len(points)} points and {len(colorings)} colorings; allowed "
      "is at least one of each."
    )
  for coloring in colorings:
    _check(coloring, len(points))
  alone = len(colorings) == 1
  rows = -(-len(colorings) // _ACROSS)
  across = min(len(colorings), _ACROSS)
  size = (10, 8) if alone else (5 * across, 5 * rows + 0.5)
  figure = canvas.new_figure(*size)
  figure.suptitle(title)
  for i, coloring in enumerate(colorings):
    ax = figure.add_subplot(rows, across, i + 1)
    ax.set(title=coloring.title, xlabel=x_label, ylabel=y_label)
    ax.grid(alpha=0.2)
    _scatter(ax, points, coloring)
    entries = len(ax.get_legend_handles_labels()[0])
    if entries and alone:
      figure.legend(
        loc="outside right upper", ncols=-(-entries // _LEGEND_ROWS)
      )
    elif entries:
      ax.legend(loc="best", fontsize="small")
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def _check(coloring: Coloring, count: int) -> None:
  labels = coloring.labels
  if labels is None:
    return
  if labels.shape != (count,):
    raise ValueError(
      f"labels of {coloring.title!r} is {list(labels.shape)}; allowed is "
      f"[{count}], one for each point."
    )
  if labels.min() < 0 or labels.max() >= len(coloring.names):
    raise ValueError(
      f"labels of {coloring.title!r} is {labels.min()} to {labels.max()}; "
      f"allowed is 0 to {len(coloring.names) - 1}, one for each name."
    )


def _scatter(ax, points, coloring):
  size = np.clip(40_000 / len(points), 3, 30)
  colors = "#1f5f9e"
  if coloring.labels is not None:
    ids, inverse = np.unique(coloring.labels, return_inverse=True)
    # By all names, so that a class has one colour in every picture.
    palette = canvas.palette(len(coloring.names))
    colors = palette[ids][inverse]
    for i in ids:
      # Off the picture, for the legend alone: points are drawn in the order
      # given, or the last class would cover all others.
      name = coloring.names[i]
      ax.plot([], [], "o", ms=8, color=palette[i], label=name)
  ax.scatter(*points.T, s=size, c=colors, alpha=0.6, linewidths=0)
