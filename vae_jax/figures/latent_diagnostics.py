"""What the latents of a split carry, dimension by dimension."""

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, UInt8

from vae_jax.figures import canvas, png

_ACTIVE, _INACTIVE = "#1f5f9e", "#c9c9c9"
_SAMPLES, _MEANS = "#b3cde6", "#c2590c"
_ROWS, _COLUMNS = 2, 3
# Beyond so many, names of single dimensions under the bars would overlap.
_NAMED_BARS = 32


def latent_diagnostics(
  kl: Float[np.ndarray, " d"],
  active: Bool[np.ndarray, " d"],
  means: Float[np.ndarray, "b d"],
  samples: Float[np.ndarray, "b d"],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws the KL of each dimension, and where the codes lie in the best ones.

  Left, dimensions by falling KL; right, for the first of them, histograms of
  the aggregate posterior q(z) and of its means beside the prior N(0, 1).

  Args:
    kl: `[d]`, mean KL of each dimension, nats per image.
    active: `[d]`, which dimensions are active.
    means: `[b d]`, posterior mean of each example.
    samples: `[b d]`, one draw from each posterior.
    path: Where to write the PNG; None only draws.

  Returns:
    The picture, in RGB.
  """
  figure = canvas.new_figure(14, 5.6)
  # Room at the borders, which the layout otherwise fills to the last pixel.
  figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
  grid = figure.add_gridspec(
    _ROWS, 1 + _COLUMNS, width_ratios=(2.3,) + (1,) * _COLUMNS
  )
  order = np.argsort(-kl, kind="stable")
  _draw_bars(figure.add_subplot(grid[:, 0]), kl[order], active[order], order)
  for i, u in enumerate(order[: _ROWS * _COLUMNS]):
    row, column = divmod(i, _COLUMNS)
    ax = figure.add_subplot(grid[row, 1 + column])
    _draw_histogram(ax, means[:, u], samples[:, u])
    ax.set_title(f"z[{u}], KL {kl[u]:.2f} nats", fontsize=10)
  handles, labels = ax.get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower right", ncols=3)
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def _draw_bars(ax, kl, active, order):
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


def _draw_histogram(ax, means, samples):
  # Some outliers must not squeeze the rest; the prior is always in sight.
  low, high = np.quantile(samples, (0.002, 0.998))
  low, high = min(-3.5, low), max(3.5, high)
  bins = np.linspace(low, high, np.clip(int(len(samples) ** 0.5), 10, 60) + 1)
  width = bins[1] - bins[0]
  for values, style in (
    (
      samples,
      {"histtype": "stepfilled", "color": _SAMPLES, "label": "draws of q(z)"},
    ),
    (
      means,
      {"histtype": "step", "color": _MEANS, "label": "means of q(z | x)"},
    ),
  ):
    weights = np.full(len(values), 1 / (len(values) * width))
    ax.hist(values, bins, weights=weights, **style)
  x = np.linspace(low, high, 200)
  prior = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
  ax.plot(x, prior, "--", color="0.2", lw=1, label="N(0, 1)")
  # Means of a dimension without information are one spike, out of scale.
  heights = np.histogram(samples, bins)[0] / (len(samples) * width)
  ax.set(xlim=(low, high), ylim=(0, 1.25 * max(heights.max(), 0.4)))
  ax.tick_params(labelsize=8)
