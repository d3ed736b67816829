"""Matplotlib figures, their pixels, their colors and the series in them.

Figures are objects of their own, never `pyplot`'s, because all threads share
the current figure of `pyplot`.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from vae_jax.figures import png

if typing.TYPE_CHECKING:
  from matplotlib import figure as figure_lib

_DPI = 100
DARK_BLUE, LIGHT_BLUE = "#1f5f9e", "#b3cde6"
DARK_ORANGE, LIGHT_ORANGE = "#c2590c", "#f6cfa8"


def new_figure(
  width: int | float,
  height: int | float,
  *,
  pad: tuple[float, float] | None = None,
) -> figure_lib.Figure:
  """Returns an empty Matplotlib figure of a size in inches.

  `pad` is the horizontal and vertical margin around the axes, inches; None =
  Matplotlib's, which is narrow.
  """
  # Imported here because it takes longer than all else at a start-up.
  from matplotlib import figure

  empty = figure.Figure((width, height), dpi=_DPI, layout="constrained")
  if pad is not None:
    empty.get_layout_engine().set(w_pad=pad[0], h_pad=pad[1])
  return empty


def render(
  figure: figure_lib.Figure, path: epath.PathLike | None = None
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Returns a figure's pixels, RGB; given a path, writes them as PNG."""
  from matplotlib.backends import backend_agg

  canvas = backend_agg.FigureCanvasAgg(figure)
  # The layout follows the tick labels of the previous draw: after a single
  # draw, an axis label may lie outside the picture.
  figure.draw_without_rendering()
  canvas.draw()
  return png.save(np.asarray(canvas.buffer_rgba())[..., :3].copy(), path)


def palette(n: int) -> Float[np.ndarray, "n 4"]:
  """Returns n distinct colors, RGBA in [0, 1]."""
  import matplotlib

  if n <= 20:
    name = "tab10" if n <= 10 else "tab20"
    return matplotlib.colormaps[name](np.arange(n))
  return matplotlib.colormaps["turbo"](np.linspace(0, 1, n))


def curve(
  rows: Sequence[Mapping[str, Any]], split: str, *keys: str
) -> Float[np.ndarray, "columns n"]:
  """Returns values of a split's rows, in the order of the steps.

  Args:
    rows: Metrics, each with `step` and `split`.
    split: "train" or "validation".
    *keys: Quantities; rows where one is missing or not finite are left out.

  Returns:
    The steps, then a line of values for each of the keys.
  """
  names = ("step", *keys)
  points = [
    [row[name] for name in names]
    for row in rows
    if row.get("split") == split
    and all(row.get(name) is not None for name in names)
  ]
  points = np.array(points, np.float64).reshape(-1, len(names))
  points = points[np.isfinite(points).all(axis=1)]
  return points[np.argsort(points[:, 0], kind="stable")].T


def running_mean(
  values: Float[np.ndarray, " n"], limits: tuple[float, float]
) -> Float[np.ndarray, " n"]:
  """Returns centered means over 1/20 of the values, 201 at most.

  Args:
    values: One for each step; near the ends the window is shorter.
    limits: Of the y axis. Values are clipped to three times this range, because
      one exploding step would lift the mean out of the picture.
  """
  window = min(len(values) // 20, 200) // 2 * 2 + 1
  low, high = limits
  values = np.clip(values, 2 * low - high, 2 * high - low)
  total = np.convolve(values, np.ones(window), "same")
  return total / np.convolve(np.ones_like(values), np.ones(window), "same")


def robust_limits(
  curves: Sequence[Float[np.ndarray, "2 _"]],
) -> tuple[float, float]:
  """Returns limits of y that hold the bulk of curves of (step, value).

  They leave out the first 5% of the steps, the outer 1% of the values after
  them, and values more than 10 interquartile ranges from the quartiles.
  """
  start = min(step.min() for step, _ in curves)
  start += 0.05 * (max(step.max() for step, _ in curves) - start)
  bounds = []
  for step, value in curves:
    if not np.any(late := step >= start):
      continue
    low, q1, q3, high = np.quantile(value[late], (0.005, 0.25, 0.75, 0.995))
    # Needed for short curves: one huge value in a hundred is within the
    # quantiles above. Without spread in the middle, no value counts as far.
    far = 10 * (q3 - q1) or np.inf
    bounds += [max(low, q1 - far), min(high, q3 + far)]
  low, high = min(bounds), max(bounds)
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  return low - margin, high + margin
