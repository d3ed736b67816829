"""Points of a plane, such as latent codes, colored by their labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Integer, UInt8

from vae_jax.figures import canvas

_COLUMNS = 3  # Panels in a row.
_LEGEND_ROWS = 30


class Coloring(NamedTuple):
  """A panel of `scatter`.

  Attributes:
    title: Title of the panel.
    labels: Index into `names` of each point, [n]; None draws one color.
    names: Names of the labels 0, 1, ..., for the legend.
  """

  title: str
  labels: Integer[np.ndarray, " n"] | None = None
  names: Sequence[str] = ()


def scatter(
  points: Float[np.ndarray, "n 2"],
  colorings: Sequence[Coloring],
  path: epath.PathLike | None = None,
  *,
  title: str,
  x_label: str,
  y_label: str,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws points of a plane, in one panel for each coloring.

  Args:
    points: In the units of the axes.
    colorings: One for each panel; three panels make a row. The legend leaves
      out labels without a point.
    x_label: First coordinate, with its unit if it has one; so is `y_label`.

  Raises:
    ValueError: If there is no point or no panel, the labels are not one for
      each point, or a label has no name.
  """
  if not len(points) or not colorings:
    raise ValueError(
      f"There are {len(points)} points and {len(colorings)} colorings; allowed "
      "is at least one of each."
    )
  for coloring in colorings:
    _check(coloring, len(points))
  single = len(colorings) == 1
  rows = -(-len(colorings) // _COLUMNS)
  columns = min(len(colorings), _COLUMNS)
  size = (10, 8) if single else (5 * columns, 5 * rows + 0.5)
  figure = canvas.new_figure(*size)
  figure.suptitle(title)
  for i, coloring in enumerate(colorings):
    ax = figure.add_subplot(rows, columns, i + 1)
    ax.set(title=coloring.title, xlabel=x_label, ylabel=y_label)
    ax.grid(alpha=0.2)
    _draw_points(ax, points, coloring, alpha=0.6)
    if single:
      _add_legend(figure, ax)
    elif ax.get_legend_handles_labels()[0]:
      ax.legend(loc="best", fontsize="small")
  return canvas.render(figure, path)


def latent_scatter(
  codes: Float[np.ndarray, "n 2"],
  labels: Integer[np.ndarray, " n"] | None = None,
  path: epath.PathLike | None = None,
  *,
  class_names: Sequence[str] | None = None,
  standard_normal: bool = True,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws 2-D latents, colored by class, over the scale of the prior.

  Args:
    codes: One latent per example.
    labels: Class ids; None draws all points in one color.
    class_names: Name of each class id, for the legend; None shows the ids.
    standard_normal: Whether the prior is N(0, I); if so, circles show its
      scale.

  Raises:
    ValueError: If the latents are not 2-D, the labels not one for each, or a
      label has no entry in `class_names`.
  """
  if codes.ndim != 2 or codes.shape[1] != 2:
    raise ValueError(f"codes is {list(codes.shape)}; allowed is [n 2].")
  if labels is not None and class_names is None:
    ids, labels = np.unique(labels, return_inverse=True)
    class_names = [str(i) for i in ids]
  coloring = Coloring("latent codes", labels, class_names or ())
  _check(coloring, len(codes))
  codes = np.asarray(codes, np.float64)
  figure = canvas.new_figure(10, 8)
  ax = figure.add_subplot()
  _draw_points(ax, codes, coloring, alpha=0.7)
  angle = np.linspace(0, 2 * np.pi, 200)
  for radius, style in ((1, "-"), (2, "--")) if standard_normal else ():
    circle = radius * np.cos(angle), radius * np.sin(angle)
    label = f"{radius} std of N(0, I)"
    ax.plot(*circle, style, color="0.35", lw=1, alpha=0.7, label=label)
  extent = 1.05 * np.abs(codes[np.isfinite(codes)]).max(initial=2)
  ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
  ax.set(title=coloring.title, xlabel="z[0]", ylabel="z[1]")
  ax.grid(alpha=0.2)
  _add_legend(figure, ax)
  return canvas.render(figure, path)


def _check(coloring: Coloring, count: int) -> None:
  labels = coloring.labels
  if labels is None:
    return
  if labels.shape != (count,):
    raise ValueError(
      f"labels of {coloring.title!r} is {list(labels.shape)}; allowed is "
      f"[{count}], one for each point."
    )
  if count and (labels.min() < 0 or labels.max() >= len(coloring.names)):
    raise ValueError(
      f"labels of {coloring.title!r} is {labels.min()} to {labels.max()}; "
      f"allowed is 0 to {len(coloring.names) - 1}, one for each name."
    )


def _draw_points(
  ax: Any, points: Float[np.ndarray, "n 2"], coloring: Coloring, alpha: float
) -> None:
  size = np.clip(40_000 / max(len(points), 1), 3, 30)
  colors = canvas.DARK_BLUE
  if coloring.labels is not None:
    # By all names, so that a class has the same color in every picture.
    palette = canvas.palette(len(coloring.names))
    colors = palette[coloring.labels]
    for i in np.unique(coloring.labels):
      # Outside the picture, for the legend alone: the points are drawn in the
      # given order, because the last class would cover all others.
      name = coloring.names[i]
      ax.plot([], [], "o", ms=8, color=palette[i], label=name)
  ax.scatter(*points.T, s=size, c=colors, alpha=alpha, linewidths=0)


def _add_legend(figure: Any, ax: Any) -> None:
  entries = len(ax.get_legend_handles_labels()[0])
  if entries:
    columns = -(-entries // _LEGEND_ROWS)
    figure.legend(loc="outside right upper", ncols=columns)
