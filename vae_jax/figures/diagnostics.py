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
  left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
  order = np.argsort(-kl, kind="stable")
  _draw_bars(left, kl[order], active[order], order)
  axes = right.subplots(_ROWS, _COLUMNS, squeeze=False).ravel()
  for ax in axes[len(kl) :]:
    ax.set_axis_off()
  for ax, u in zip(axes, order, strict=False):
    _draw_histogram(ax, means[:, u], samples[:, u])
    ax.set_title(f"z{u}, KL {kl[u]:.2f} nats", fontsize=10)
  handles, labels = axes[0].get_legend_handles_labels()
  right.legend(handles, labels, loc="outside lower center", ncols=3)
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def _draw_bars(figure, kl, active, order):
  ax = figure.subplots()
  place = np.arange(len(kl))
  for chosen, color, name in (
    (active, _ACTIVE, "active"),
    (~active, _INACTIVE, "inactive"),
  ):
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
  figure.legend(loc="outside lower center", ncols=2)


def _draw_histogram(ax, means, samples):
  # Some outliers must not squeeze the rest; the prior is always in sight.
  low, high = np.quantile(samples, (0.002, 0.998))
  low, high = min(-3.5, low), max(3.5, high)
  bins = np.linspace(low, high, 61)
  width = bins[1] - bins[0]
  for values, style in (
    (samples, {"histtype": "stepfilled", "color": _SAMPLES, "label": "q(z)"}),
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
