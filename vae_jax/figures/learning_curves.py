"""Metrics against the training step: of one run, or of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from vae_jax.figures import canvas

# For the first and the second quantity of a panel: light for single training
# steps, dark for their running mean and for the validation.
_COLORS = (
  (canvas.LIGHT_BLUE, canvas.DARK_BLUE),
  (canvas.LIGHT_ORANGE, canvas.DARK_ORANGE),
)
_DOTS = {"ls": "none", "marker": "o", "ms": 5, "mec": "white", "zorder": 3}


def loss_curves(
  rows: Sequence[Mapping[str, Any]],
  path: epath.PathLike | None = None,
  *,
  steps_per_epoch: int | float | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws the loss, the distortion and the rate of a run against the step.

  The minimized loss joins the negative ELBO where the two differ. The y axis
  follows `canvas.robust_limits`, because the huge values of the first steps
  would flatten the rest.

  Args:
    rows: Metrics, each with `step`, `split` ("train" or "validation"; others
      are left out) and any of `neg_elbo`, `loss`, `distortion` and `rate` in
      nats per image. Missing, None and non-finite values are left out.
    steps_per_epoch: Steps per pass over the training data. If given, a second
      x axis counts epochs.

  Raises:
    ValueError: If no row holds a value to draw, or if `steps_per_epoch` is
      not positive.
  """
  if steps_per_epoch is not None and not steps_per_epoch > 0:
    raise ValueError(
      f"steps_per_epoch is {steps_per_epoch}; allowed is a number above 0."
    )
  differs = any(_loss_differs(row) for row in rows)
  panels = {
    "negative ELBO" + " and loss" * differs: ["neg_elbo"] + ["loss"] * differs,
    "distortion": ["distortion"],
    "rate": ["rate"],
  }
  figure = canvas.new_figure(14, 4.8, pad=(0.12, 0.1))
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
    ax.set(ylim=limits, xlabel="step", ylabel="nats per image")
    ax.locator_params(axis="x", nbins=5, integer=True)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.grid(alpha=0.3)
    if steps_per_epoch is not None:
      convert = (lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch)
      ax.secondary_xaxis("top", functions=convert).set_xlabel("epoch")
    for j, prefix in enumerate(("", "loss, ")[: len(keys)]):
      _draw_quantity(ax, train[j], validation[j], limits, prefix, _COLORS[j])
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if not handles:
    raise ValueError(
      "rows holds nothing to draw; at least one row needs a step, a split of "
      "'train' or 'validation' and a finite neg_elbo, loss, distortion or rate."
    )
  place = {"loc": "outside lower center", "ncols": len(handles)}
  figure.legend(handles.values(), handles, **place)
  return canvas.render(figure, path)


def _loss_differs(row: Mapping[str, Any]) -> bool:
  loss, neg_elbo = row.get("loss"), row.get("neg_elbo")
  if loss is None or neg_elbo is None:
    return loss is not None
  return bool(abs(loss - neg_elbo) > 1e-3 * abs(neg_elbo))


def _draw_quantity(
  ax: Any,
  train: Float[np.ndarray, "2 _"],
  validation: Float[np.ndarray, "2 _"],
  limits: tuple[float, float],
  prefix: str,
  colors: tuple[str, str],
) -> None:
  light, dark = colors
  if train.size:
    step, value = train
    mean = canvas.running_mean(value, limits)
    ax.plot(step, value, color=light, lw=0.8, label=f"{prefix}train")
    ax.plot(step, mean, color=dark, label=f"{prefix}train, running mean")
  if validation.size:
    ax.plot(*validation, color=dark, label=f"{prefix}validation", **_DOTS)


def learning_curves(
  histories: Mapping[str, Sequence[Mapping[str, Any]]],
  path: epath.PathLike | None = None,
) -> UInt8[np.ndarray, "fig_h fig_w 3"]:
  """Draws each run's validation against the step, its training loss faintly.

  The validation is the neg_elbo or, for a run without a rate, the loss.

  Args:
    histories: Metrics of each run by name, with `step`, `split` ("train" or
      "validation"; others are left out) and `neg_elbo` or `loss`, nats per
      image.

  Raises:
    ValueError: If no run has a validation.
  """
  figure = canvas.new_figure(12, 6.5, pad=(0.12, 0.1))
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
  # Two almost equal runs should not fill the picture.
  margin = 0.01 * max(abs(low), abs(high))
  ax.set(ylim=(low - margin, high + margin))
  ax.set(xlabel="step", ylabel="nats per image")
  ax.set_title("validation neg_elbo (training loss: faint, where in range)")
  ax.xaxis.set_major_formatter("{x:,.0f}")
  ax.grid(alpha=0.3)
  figure.legend(loc="outside right upper")
  return canvas.render(figure, path)
