"""Runs in the plane of rate and distortion."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from vae_jax.figures import canvas

# Distances (pixels) and directions of a label from its point, in the order in
# which they are tried.
_DISTANCES = (9, 18, 30, 45, 65, 90, 120)
_ANGLES = np.deg2rad((0, 180, 90, 270, 45, 315, 135, 225))

_Points = Mapping[str, tuple[float, float]]


def rate_distortion(
  points: _Points,
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws runs in the plane of rate and distortion, with their histories.

  Along a dotted line neg_elbo = rate + distortion is constant.

  Args:
    points: Rate and distortion, nats per image, by the run's name.
    histories: Metrics of each run by name, in the order of its colors; the
      rows of split "validation" are its faint path.

  Raises:
    ValueError: If there are no points.

  References:
    Alemi et al., arXiv 1711.00464, figure 1.
  """
  if not points:
    raise ValueError("points is empty; there is nothing to draw.")
  figure = canvas.new_figure(10, 7.5, pad=(0.12, 0.1))
  ax = figure.add_subplot()
  colors = dict(zip(histories, canvas.palette(len(histories)), strict=True))
  low, high = _limits(np.array(list(points.values())))
  ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
  _draw_iso_lines(ax, low, high)
  for name, rows in histories.items():
    _, rate, distortion = canvas.curve(rows, "validation", "rate", "distortion")
    style = {"color": colors[name], "alpha": 0.45, "lw": 1, "ms": 3}
    ax.plot(rate, distortion, "-o", mew=0, **style)
  for name, point in points.items():
    ax.plot(*point, "o", ms=9, color=colors[name], mec="white", zorder=4)
  ax.set(xlabel="rate, nats per image", ylabel="distortion, nats per image")
  ax.set_title("rate and distortion (validation while training: faint)")
  _label(figure, ax, points, colors)
  return canvas.render(figure, path)


def _limits(
  points: Float[np.ndarray, "n 2"],
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
  """Returns corners of a box around points with room for their labels."""
  low, high = points.min(axis=0), points.max(axis=0)
  # Without the paths: their beginning is far off and would shrink the rest.
  margin = 0.3 * (high - low) + 0.03 * np.abs(points).max(axis=0) + 1e-3
  return low - margin, high + margin


def _draw_iso_lines(
  ax: Any, low: Float[np.ndarray, " 2"], high: Float[np.ndarray, " 2"]
) -> None:
  """Draws lines of constant neg_elbo."""
  from matplotlib import ticker

  levels = ticker.MaxNLocator(8).tick_values(low.sum(), high.sum())
  # Shorter pieces, in the corners, have no room for their label.
  inside = 0.15 * (high - low)
  for level in levels:
    # The line enters the box from the left or from above.
    x = max(low[0], level - high[1])
    if level - x < low[1] + inside[1] or x > high[0] - inside[0]:
      continue
    ax.axline((x, level - x), slope=-1, color="0.75", ls=":", lw=1, zorder=0)
    start = x + 0.15 * inside[0]
    label = ax.text(start, level - start, f"neg_elbo {level:g}", clip_on=True)
    label.set(color="0.5", fontsize=8, va="center", zorder=0)
    label.set(bbox={"color": "white", "pad": 1}, rotation=-45)
    label.set(rotation_mode="anchor", transform_rotates_text=True)


def _label(
  figure: Any,
  ax: Any,
  points: _Points,
  colors: Mapping[str, Float[np.ndarray, " 4"]],
) -> None:
  """Writes each name near its point, clear of other labels and points."""
  from matplotlib import transforms

  # Only a finished layout knows the pixel of a point.
  figure.draw_without_rendering()
  per_pixel = 72 / figure.dpi
  pixels = {n: ax.transData.transform(p) for n, p in points.items()}
  frame = ax.get_window_extent()
  taken = [
    transforms.Bbox.from_extents(*(p - 6), *(p + 6)) for p in pixels.values()
  ]
  for name, point in pixels.items():
    text = ax.text(0, 0, name, fontsize=9)
    size = np.array(text.get_window_extent().size)
    text.remove()
    choices = []
    for distance, angle in itertools.product(_DISTANCES, _ANGLES):
      direction = np.array([np.cos(angle), np.sin(angle)])
      offset = direction * (distance + size / 2)
      corner = point + offset - size / 2
      box = transforms.Bbox.from_extents(*corner, *(corner + size))
      crossed = sum(box.overlaps(other) for other in taken)
      within = frame.contains(*box.min) and frame.contains(*box.max)
      choices.append((crossed + 100 * (not within), len(choices), offset, box))
    _, place, offset, box = min(choices, key=lambda c: c[:2])
    taken.append(box)
    line = {"arrowstyle": "-", "color": colors[name], "lw": 1}
    style = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 5}
    ax.annotate(
      name,
      points[name],
      offset * per_pixel,
      textcoords="offset points",
      # Darker than the point, because some colors are too light for letters.
      color=0.6 * colors[name][:3],
      # A name next to its point needs no line.
      arrowprops=line if place >= 2 else None,
      **style,
    )
