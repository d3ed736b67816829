"""Several runs in one picture, each in its colour."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from vae_jax.figures import canvas, png

# Distances of a label from its point and directions, tried in this order.
_DISTANCES = (9, 18, 30, 45, 65, 90, 120)
_ANGLES = np.deg2rad((0, 180, 90, 270, 45, 315, 135, 225))


def rate_distortion(
  points: Mapping[str, tuple[float, float]],
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws runs in the plane of rate and distortion, and how they came there.

  Along a dotted line neg_elbo = rate + distortion is the same.

  Args:
    points: Rate and distortion, nats per image, by the run's name.
    histories: Metrics of each run by name, in the order of its colours; the
      rows of split "validation" are its faint path.
    path: Where to write the PNG; None only draws.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If there are no points.

  References:
    Alemi et al., arXiv 1711.00464, figure 1.
  """
  if not points:
    raise ValueError("points is empty; there is nothing to draw.")
  figure = canvas.new_figure(10, 7.5)
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
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
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def learning_curves(
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws each run's validation against the step, its training loss faintly.

  The validation is the neg_elbo or, of a run without a rate, the loss.

  Args:
    histories: Metrics of each run by name, with `step`, `split` ("train" or
      "validation"; others are left out) and `neg_elbo` or `loss`, nats per
      image.
    path: Where to write the PNG; None only draws.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If no run has a validation.
  """
  figure = canvas.new_figure(12, 6.5)
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
  ax = figure.add_subplot()
  validations = []
  colors = canvas.palette(len(histories))
  for (name, rows), color in zip(histories.items(), colors, strict=True):
    curve = canvas.curve(rows, "validation", "neg_elbo")
    if not curve.size:
      curve = canvas.curve(rows, "validation", "loss")
      name += " (loss)" if curve.size else " (no validation)"
    validations += [curve] if curve.size else []
    ax.plot(*canvas.curve(rows, "train", "loss"), color=color, lw=1, alpha=0.25)
    ax.plot(*curve, "-o", color=color, ms=4, lw=1.5, label=name, zorder=3)
  if not validations:
    raise ValueError(
      "histories holds nothing to draw; at least one run needs a row of split "
      "'validation' with a finite neg_elbo or loss."
    )
  low, high = canvas.robust_limits(validations)
  # Two runs that are all but equal need not fill the picture.
  margin = 0.01 * max(abs(low), abs(high))
  ax.set_ylim(low - margin, high + margin)
  ax.set(xlabel="step", ylabel="nats per image")
  ax.set_title("validation neg_elbo (training loss: faint, where in range)")
  ax.xaxis.set_major_formatter("{x:,.0f}")
  ax.grid(alpha=0.3)
  figure.legend(loc="outside right upper")
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def _limits(points):
  """Corners of a box around points with room for their labels."""
  low, high = points.min(axis=0), points.max(axis=0)
  # The beginning of the paths is far off, and would shrink what matters.
  margin = 0.3 * (high - low) + 0.03 * np.abs(points).max(axis=0) + 1e-3
  return low - margin, high + margin


def _draw_iso_lines(ax, low, high):
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
    ax.text(
      start,
      level - start,
      f"neg_elbo {level:g}",
      color="0.5",
      fontsize=8,
      va="center",
      rotation=-45,
      rotation_mode="anchor",
      transform_rotates_text=True,
      bbox={"color": "white", "pad": 1},
      clip_on=True,
      zorder=0,
    )


def _label(figure, ax, points, colors):
  """Writes each name by its point, where no other label or point is."""
  from matplotlib import transforms

  # Only a finished layout knows where a point is in pixels.
  figure.draw_without_rendering()
  per_pixel = 72 / figure.dpi
  where = {n: ax.transData.transform(p) for n, p in points.items()}
  frame = ax.get_window_extent()
  taken = [
    transforms.Bbox.from_extents(*(p - 6), *(p + 6)) for p in where.values()
  ]
  for name, point in where.items():
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
    # Beside its point a name needs no line.
    beside = place < 2
    ax.annotate(
      name,
      points[name],
      xytext=offset * per_pixel,
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=9,
      # Darker than the point: some colours are too light for letters.
      color=0.6 * colors[name][:3],
      zorder=5,
      arrowprops=None if beside else line,
    )
