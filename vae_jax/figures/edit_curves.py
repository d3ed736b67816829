"""Effects of editing an attribute, by kind of direction."""

from collections.abc import Mapping

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from vae_jax.figures import canvas

_BAR = 0.8  # Height of an attribute's bars, in distances of attributes.


def edit_curves(
  strengths: Float[np.ndarray, " s"],
  targets: Mapping[str, Float[np.ndarray, "n s"]],
  changes: Mapping[str, Mapping[str, float]],
  medians: Mapping[str, tuple[float | None, float | None]],
  path: epath.PathLike | None = None,
  *,
  title: str,
  target_name: str,
  clearly: tuple[float, float],
  attribute: str,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws the target against the strength, and the change of all attributes.

  Left, the mean target of the images for each kind of direction, with a band
  from the 10th to the 90th percentile, and on the dotted lines a diamond at
  the median of the smallest strengths that reach them; right, the change of
  each attribute's probability from the first strength to the last.

  Args:
    strengths: Strengths of the edits.
    targets: Measured target of each image, by kind of direction.
    changes: Mean change of each attribute's probability, by kind.
    medians: Medians of the smallest strengths that make the attribute clearly
      absent and clearly present, each >= 0, by kind; None = no mark.
    target_name: With its unit.
    clearly: Targets below and above which the attribute is clearly absent and
      clearly present, as dotted lines.
    attribute: The edited attribute, in bold.
  """
  names = list(next(iter(changes.values())))
  height = max(5.0, 1.2 + 0.27 * len(names))
  figure = canvas.new_figure(14, height, pad=(0.15, 0.12))
  left, right = figure.subplots(1, 2, width_ratios=(1, 1))
  colors = dict(zip(targets, canvas.palette(len(targets)), strict=True))
  for kind, values in targets.items():
    low, high = np.quantile(values, (0.1, 0.9), axis=0)
    left.fill_between(strengths, low, high, color=colors[kind], alpha=0.15)
    style = {"ms": 3.5, "color": colors[kind], "label": kind}
    left.plot(strengths, values.mean(axis=0), "-o", **style)
  for i, (level, sign) in enumerate(zip(clearly, (-1, 1), strict=True)):
    left.axhline(level, color="0.4", ls=":", lw=1)
    for kind, both in medians.items():
      if both[i] is not None:
        mark = {"ms": 9, "mec": "black", "color": colors[kind], "zorder": 4}
        left.plot(sign * both[i], level, "D", **mark)
  left.set(xlabel="strength", ylabel=target_name)
  left.set_title("target, mean and 10% to 90% of the images")
  left.grid(alpha=0.3)
  left.legend(title="direction")
  place = np.arange(len(names))
  height = _BAR / len(changes)
  for i, (kind, change) in enumerate(changes.items()):
    values = [change[name] for name in names]
    start = place + (i + 0.5) * height - _BAR / 2
    right.barh(start, values, height, color=colors[kind])
  right.set_yticks(place, names, fontsize=9)
  for label in right.get_yticklabels():
    if label.get_text() == attribute:
      label.set_fontweight("bold")
  right.invert_yaxis()
  right.axvline(0, color="0.3", lw=0.8)
  right.set(xlim=(-1, 1))
  right.set_xlabel("change of probability, first to last strength")
  right.set_title("what changes along the strip, mean of the images")
  right.grid(axis="x", alpha=0.3)
  right.set_axisbelow(True)
  right.margins(y=0.01)
  figure.suptitle(title)
  return canvas.render(figure, path)
