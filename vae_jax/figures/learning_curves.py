"""Curves and scatter plots of one run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Integer, UInt8

from vae_jax.figures import canvas, png

# For the first and the second quantity of a panel: single training steps in
# the light colour, their running mean and the validation in the dark one.
_CURVE_COLORS = (("#b3cde6", "#1f5f9e"), ("#f6cfa8", "#c2590c"))
_CURVES = ("neg_elbo", "loss", "distortion", "rate")


def loss_curves(
  rows: Sequence[Mapping[str, Any]],
  path: epath.PathLike | None = None,
  *,
  steps_per_epoch: int | float | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws the total loss, the distortion and the rate against the step.

  The minimised loss joins the negative ELBO where the two differ. The y axis
  leaves out the first 5% of the steps, the outer 1% of the values after them
  and what is far from the bulk of the rest, so that the huge values of the
  first steps leave the picture instead of flattening it.

  Args:
    rows: Metrics, each with `step`, `split` ("train" or "validation"; others
      are left out) and any of `neg_elbo`, `loss`, `distortion` and `rate` in
      nats per image. Missing, None and non-finite values are left out.
    path: Where to write the PNG; None only draws.
    steps_per_epoch: Steps per pass over the training data; given, a second
      x axis counts epochs.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If no row holds a value to draw, or if `steps_per_epoch` is
      not positive.
  """
  if steps_per_epoch is not None and not steps_per_epoch > 0:
    raise ValueError(
      f"steps_per_epoch is {steps_per_epoch}; allowed is a number above 0."
    )
  differs = any(
    row.get("loss") is not None
    and (
      row.get("neg_elbo") is None
      or abs(row["loss"] - row["neg_elbo"]) > 1e-3 * abs(row["neg_elbo"])
    )
    for row in rows
  )
  panels = {
    "negative ELBO" + " and loss" * differs: ["neg_elbo"] + ["loss"] * differs,
    "distortion": ["distortion"],
    "rate": ["rate"],
  }
  figure = canvas.new_figure(14, 4.8)
  handles = {}
  for i, (title, keys) in enumerate(panels.items()):
    ax = figure.add_subplot(1, len(panels), i + 1)
    ax.set_title(title)
    train = [canvas.curve(rows, "train", key) for key in keys]
    validation = [canvas.curve(rows, "validation", key) for key in keys]
    curves = [curve for curve in train + validation if curve.size]
    if not curves:
      ax.set_axis_off()
      ax.text(0.5, 0.5, "no values", ha="center", transform=ax.transAxes)
      continue
    limits = canvas.robust_limits(curves)
    ax.set_ylim(limits)
    ax.set_xlabel("step")
    ax.set_ylabel("nats per image")
    ax.locator_params(axis="x", nbins=5, integer=True)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(alpha=0.3)
    if steps_per_epoch is not None:
      convert = (lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch)
      ax.secondary_xaxis("top", functions=convert).set_xlabel("epoch")
    for j, prefix in enumerate(("", "loss, ")[: len(keys)]):
      light, dark = _CURVE_COLORS[j]
      (step, value), mean = train[j], f"{prefix}train, running mean"
      if step.size:
        ax.plot(step, value, color=light, lw=0.8, label=f"{prefix}train")
        ax.plot(step, _running_mean(value, limits), color=dark, label=mean)
      dots = {"ls": "none", "marker": "o", "ms": 5, "mec": "white"}
      if validation[j].size:
        label = f"{prefix}validation"
        ax.plot(*validation[j], color=dark, zorder=3, label=label, **dots)
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if not handles:
    raise ValueError(
      "rows holds nothing to draw; at least one row needs a step, a split of "
      f"'train' or 'validation' and a finite value of {list(_CURVES)}."
    )
  figure.legend(
    handles.values(), handles, loc="outside lower center", ncols=len(handles)
  )
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def latent_scatter(
  codes: Float[np.ndarray, "n 2"],
  labels: Integer[np.ndarray, " n"] | None = None,
  path: epath.PathLike | None = None,
  *,
  class_names: Sequence[str] | None = None,
  standard_normal: bool = True,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws 2-D latents, coloured by class, over the scale of the prior.

  Args:
    codes: `[n 2]`, one latent per example.
    labels: `[n]`, class ids; None draws all points in one colour.
    path: Where to write the PNG; None only draws.
    class_names: Name of each class id, for the legend; None shows the ids.
    standard_normal: Whether the prior is N(0, I), whose circles are drawn.

  Returns:
    The picture, in RGB.

  Raises:
    ValueError: If the latents are not 2-D, the labels not one for each, or a
      label has no entry in `class_names`.
  """
  if codes.ndim != 2 or codes.shape[1] != 2:
    raise ValueError(f"codes is {list(codes.shape)}; allowed is [n 2].")
  if labels is not None and labels.shape != codes.shape[:1]:
    raise ValueError(
      f"labels is {list(labels.shape)}; allowed is [{len(codes)}], one for "
      "each of codes."
    )
  codes = np.asarray(codes, np.float64)
  figure = canvas.new_figure(10, 8)
  ax = figure.add_subplot()
  colors = _CURVE_COLORS[0][1]
  if labels is not None:
    ids, inverse = np.unique(labels, return_inverse=True)
    palette = canvas.palette(len(ids))
    colors = palette[inverse]
    for i, color in zip(ids, palette, strict=True):
      # Off the picture, for the legend alone: the points themselves are drawn
      # in the order given, or the last class would cover all others.
      ax.plot([], [], "o", ms=8, color=color, label=_class_name(i, class_names))
  size = np.clip(40_000 / max(len(codes), 1), 3, 30)
  ax.scatter(*codes.T, s=size, c=colors, alpha=0.7, linewidths=0)
  angle = np.linspace(0, 2 * np.pi, 200)
  circles = ((1, "-"), (2, "--")) if standard_normal else ()
  for radius, style in circles:
    circle = radius * np.cos(angle), radius * np.sin(angle)
    label = f"{radius} std of N(0, I)"
    ax.plot(*circle, style, color="0.35", lw=1, alpha=0.7, label=label)
  extent = 1.05 * np.abs(codes[np.isfinite(codes)]).max(initial=2)
  ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
  ax.set(title="latent codes", xlabel="z[0]", ylabel="z[1]")
  ax.grid(alpha=0.2)
  entries = len(ax.get_legend_handles_labels()[0])
  if entries:
    figure.legend(loc="outside right upper", ncols=-(-entries // 30))
  picture = canvas.render(figure)
  png.save(picture, path)
  return picture


def _class_name(i, class_names):
  if class_names is None:
    return str(i)
  if not 0 <= i < len(class_names):
    raise ValueError(
      f"labels holds {i}; allowed is 0..{len(class_names) - 1}, one for each "
      "of class_names."
    )
  return class_names[i]


def _running_mean(values, limits):
  window = min(len(values) // 20, 200) // 2 * 2 + 1
  # Clipped well outside the picture: one exploding step would otherwise lift
  # the mean out of it over a whole window.
  low, high = limits
  values = np.clip(values, 2 * low - high, 2 * high - low)
  total = np.convolve(values, np.ones(window), "same")
  return total / np.convolve(np.ones_like(values), np.ones(window), "same")
