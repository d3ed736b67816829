"""KL and aggregate posterior of each latent dimension of a split."""

from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Integer, UInt8

from vae_jax.figures import canvas

_ACTIVE, _INACTIVE = canvas.DARK_BLUE, "#c9c9c9"
_SAMPLES, _MEANS = canvas.LIGHT_BLUE, canvas.DARK_ORANGE
_ROWS, _COLUMNS = 2, 3
_NAMED_BARS = 32  # The names of more dimensions would overlap.


def latent_diagnostics(
  kl: Float[np.ndarray, " d"],
  active: Bool[np.ndarray, " d"],
  means: Float[np.ndarray, "b d"],
  samples: Float[np.ndarray, "b d"],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws the KL of each dimension, and q(z) in those with the largest KL.

  Left, dimensions by falling KL; right, for the first of them, histograms of
  the aggregate posterior q(z) and of its means, with the prior N(0, 1).

  Args:
    kl: Mean KL of each dimension, nats per image.
    active: Which dimensions are active.
    means: Posterior mean of each example.
    samples: One draw from each posterior.
  """
  figure = canvas.new_figure(14, 5.6, pad=(0.12, 0.1))
  widths = (2.3,) + (1,) * _COLUMNS
  grid = figure.add_gridspec(_ROWS, 1 + _COLUMNS, width_ratios=widths)
  order = np.argsort(-kl, kind="stable")
  _draw_bars(figure.add_subplot(grid[:, 0]), kl[order], active[order], order)
  for i, u in enumerate(order[: _ROWS * _COLUMNS]):
    row, column = divmod(i, _COLUMNS)
    ax = figure.add_subplot(grid[row, 1 + column])
    _draw_histogram(ax, means[:, u], samples[:, u])
    ax.set_title(f"z[{u}], KL {kl[u]:.2f} nats", fontsize=10)
  handles, labels = ax.get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower right", ncols=3)
  return canvas.render(figure, path)


def _draw_bars(
  ax: Any,
  kl: Float[np.ndarray, " d"],
  active: Bool[np.ndarray, " d"],
  order: Integer[np.ndarray, " d"],
) -> None:
  place = np.arange(len(kl))
  for chosen, color, name in (
    (active, _ACTIVE, "active"),
    (~active, _INACTIVE, "inactive"),
  ):
    if chosen.any():
      label = f"{name}, {chosen.sum()} of {len(kl)}"
      ax.bar(place[chosen], kl[chosen], color=color, label=label)
  if len(kl) <= _NAMED_BARS:
    ax.set_xticks(place, order, fontsize=8)
    ax.set_xlabel("dimension of z")
  else:
    ax.set_xlabel("dimensions of z, by falling KL")
  ax.set(ylabel="KL, nats per image", title="KL(q(z | x) || p(z)) by dimension")
  ax.margins(x=0.02)
  ax.grid(axis="y", alpha=0.3)
  ax.set_axisbelow(True)
  ax.legend(loc="upper right")


def _draw_histogram(
  ax: Any, means: Float[np.ndarray, " b"], samples: Float[np.ndarray, " b"]
) -> None:
  # Quantiles, because a few outliers would squeeze the rest.
  low, high = np.quantile(samples, (0.002, 0.998))
  low, high = min(-3.5, low), max(3.5, high)
  bins = np.linspace(low, high, np.clip(int(len(samples) ** 0.5), 10, 60) + 1)
  width = bins[1] - bins[0]
  density = np.full(len(samples), 1 / (len(samples) * width))
  for values, kind, color, label in (
    (samples, "stepfilled", _SAMPLES, "draws of q(z)"),
    (means, "step", _MEANS, "means of q(z | x)"),
  ):
    style = {"histtype": kind, "color": color, "label": label}
    ax.hist(values, bins, weights=density, **style)
  x = np.linspace(low, high, 200)
  prior = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
  ax.plot(x, prior, "--", color="0.2", lw=1, label="N(0, 1)")
  # Without the means, which are one high spike in an inactive dimension.
  heights = np.histogram(samples, bins)[0] / (len(samples) * width)
  ax.set(xlim=(low, high), ylim=(0, 1.25 * max(heights.max(), 0.4)))
  ax.tick_params(labelsize=8)
