"""What all plots share: a figure, its pixels, its colours and its limits.

Each figure is an object of its own, never one of `pyplot`'s, whose current
figure is shared by all threads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

_DPI = 100


def new_figure(width: int | float, height: int | float) -> Any:
  """Returns an empty Matplotlib figure of a size in inches."""
  # Imported here: it takes longer than the rest of a start-up without figures.
  from matplotlib import figure

  return figure.Figure((width, height), dpi=_DPI, layout="constrained")


def render(figure: Any) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Returns a figure's pixels, in RGB."""
  from matplotlib.backends import backend_agg

  canvas = backend_agg.FigureCanvasAgg(figure)
  # The layout follows the tick labels of the draw before it: after one draw
  # only, an axis label may lie outside the picture.
  figure.draw_without_rendering()
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def palette(n: int) -> Float[np.ndarray, "n 4"]:
  """Returns n distinct colours, RGBA in [0, 1]."""
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
    rows: metrics, each with `step` and `split`.
    split: "train" or "validation".
    *keys: quantities; a row where one is missing or not finite is left out.

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


def robust_limits(
  curves: Sequence[Float[np.ndarray, "2 _"]],
) -> tuple[float, float]:
  """Returns limits of y that hold the bulk of some curves of (step, value).

  They leave out the first 5% of the steps, the outer 1% of the values after
  them and what is far from the bulk of the rest.
  """
  start = min(step.min() for step, _ in curves)
  start += 0.05 * (max(step.max() for step, _ in curves) - start)
  bounds = []
  for step, value in curves:
    if not np.any(late := step >= start):
      continue
    low, q1, q3, high = np.quantile(value[late], (0.005, 0.25, 0.75, 0.995))
    # Short curves: one huge value in a hundred is within the quantiles above.
    # Without spread in the middle there is no scale to call a value far.
    far = 10 * (q3 - q1) or np.inf
    bounds += [max(low, q1 - far), min(high, q3 + far)]
  low, high = min(bounds), max(bounds)
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  return low - margin, high + margin
