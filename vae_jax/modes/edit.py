"""Edits images along an attribute and measures it, to <workdir>/edit/."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.evaluate import (
  attribute_edits,
  smallest_strength,
  train_classifier,
)
from vae_jax.latents import attribute_directions, directions, trained_model
from vae_jax.modes import arguments, edit_table
from vae_jax.runtime import storage
from vae_jax.training import metrics

NEEDS = "run"

_MAX_STRENGTHS = 61  # Columns of a strip.
_STRENGTHS = "-3:3:0.5"  # Of a strip and of the scores at its ends.
# Columns of a strip that spans what each kind of direction needs, as shares of
# it: negative ones make the attribute absent.
_SHARES = np.linspace(-1, 1, 9)


class _Edit(NamedTuple):
  """What is edited, and how."""

  model: trained_model.TrainedModel
  paths: attribute_edits.Paths
  weights: dict[str, float]  # by attribute
  strengths: np.ndarray  # ascending, of the scores at the ends
  kinds: tuple[str, ...]  # of directions

  @property
  def name(self) -> str:
    """The attributes and their weights, as in "Smiling_2_Eyeglasses_-1"."""
    return "_".join(
      attribute + ("" if weight == 1 else f"_{weight:g}")
      for attribute, weight in self.weights.items()
    )


def run(
  config: ConfigDict,
  workdir: str,
  *,
  attribute: str | None = None,
  strength: str | None = None,
  direction: str = ",".join(attribute_edits.KINDS),
  images: str | None = None,
  examples: int = 200,
) -> str:
  """Edits images along an attribute; returns the scores of the edit.

  Writes to `<workdir>/edit/`: `<attribute>.png` and `.npz`, a strip for each
  image and kind of direction, and one for arithmetic on pixels; and, for one
  attribute without a weight, the scores of a classifier of attributes on
  held-out images as `<attribute>.json` and `<attribute>_curves.png`.

  A measured edit's strips span what is needed unless `strength` is given: from
  minus the strength that makes the attribute clearly absent to the one that
  makes it clearly present, the 90th percentile over held-out images, for each
  kind of direction, see `smallest_strength`. The arrays hold strengths as
  `strength`, or as `strength_<kind>` if each kind has its own.

  Args:
    attribute: see `parse_weights`.
    strength: of the strips and of the scores at their ends, see
      `parse_strengths`; None = scores from -3 to 3, and these strips if the
      edit is not measured.
    direction: kinds of directions, separated by commas.
    images: see `arguments`; None = the first 4 test images.
    examples: number of test images that the edit is scored on; 0 = no scores.

  Raises:
    ConfigError: an argument is wrong, or the run has no attributes.
  """
  if attribute is None:
    raise ConfigError("--mode=edit needs an attribute, as --attribute=Smiling.")
  strengths = parse_strengths(strength or _STRENGTHS)
  kinds = tuple(part.strip() for part in direction.split(","))
  for kind in kinds:
    if kind not in attribute_edits.KINDS:
      raise ConfigError(
        f"--direction={direction}: {kind!r} must be one of "
        f"{', '.join(attribute_edits.KINDS)}."
      )
  if examples < 0:
    raise ConfigError(
      f"--examples is {examples}; it must be 0, not to measure, or more."
    )
  model = trained_model.open_run(config, workdir)
  paths = attribute_directions.directions_of(model)
  weights = parse_weights(attribute, paths[0].names)
  edit = _Edit(model, paths, weights, strengths, kinds)
  selection = arguments.images(model, images, "data:test:0-3")
  stem = re.sub(r"[^\w.+-]", "_", edit.name)
  path = model.workdir / "edit" / f"{stem}.png"
  for old in (path.with_suffix(".json"), path.with_name(f"{stem}_curves.png")):
    old.unlink(missing_ok=True)
  lines, columns = [], _shared(edit)
  if list(weights.values()) == [1.0] and examples:
    result = _measure(edit, examples, path)
    lines.append(edit_table.table(result))
    if strength is None:
      columns = _spanned(result["directions"])
  if strength is None:
    lines.append(columns.explained)
  _draw(edit, selection, columns, path)
  return "\n".join([*lines, str(path)])


def parse_weights(text: str, known: tuple[str, ...]) -> dict[str, float]:
  """Returns the weight of each attribute in "Smiling=2,Eyeglasses=-1".

  An attribute without a weight has 1.

  Raises:
    ConfigError: a name is unknown or repeated, or a weight is no number.
  """
  weights: dict[str, float] = {}
  for part in text.split(","):
    # Names of attributes may contain any character but comma and equals sign.
    name, equals, value = part.strip().partition("=")
    if name not in known:
      raise directions.unknown(name, known)
    if name in weights:
      raise ConfigError(f"--attribute={text} names {name} twice.")
    try:
      weights[name] = float(value) if equals else 1.0
    except ValueError:
      weights[name] = np.nan
    if not np.isfinite(weights[name]):
      raise ConfigError(
        f"--attribute={text}: the weight of {name} is {value!r}; it must be a "
        f"number, as in {name}=2."
      )
  return weights


def parse_strengths(text: str) -> np.ndarray:
  """Returns the strengths in "FIRST:LAST:STEP", both ends included.

  Raises:
    ConfigError: the text cannot be parsed, or yields too many strengths.
  """
  wrong = ConfigError(
    f"--strength is {text!r}; it must be FIRST:LAST:STEP with FIRST < LAST and "
    "STEP > 0 from one to the other, at most "
    f"{_MAX_STRENGTHS} strengths, as -3:3:0.5."
  )
  try:
    first, last, step = (float(part) for part in text.split(":"))
  except ValueError:
    raise wrong from None
  if not (np.isfinite([first, last, step]).all() and step > 0 and first < last):
    raise wrong
  count = round(min((last - first) / step, _MAX_STRENGTHS)) + 1
  ends_at_last = abs(first + step * (count - 1) - last) <= 1e-6 * step
  if count > _MAX_STRENGTHS or not ends_at_last:
    raise wrong
  # Rounded, so that 0 is 0.
  return np.round(first + step * np.arange(count), 9)


class _Columns(NamedTuple):
  """What the columns of a strip are."""

  strengths: dict[str, np.ndarray]  # by kind of direction, of one length
  headings: list[str]
  ranges: dict[str, str]  # for the labels of rows; empty if all have the same
  explained: str  # in one line, where no strengths were asked for


def _shared(edit: _Edit) -> _Columns:
  """Returns the same strengths for all kinds of directions."""
  first, last = edit.strengths[[0, -1]]
  return _Columns(
    dict.fromkeys((*edit.kinds, attribute_edits.PIXELS), edit.strengths),
    [f"{s:+g}" if s else "0" for s in edit.strengths],
    {},
    f"The strip shows strengths {first:g} to {last:g}: the edit is not "
    "measured, so that what it needs is not known.",
  )


def _spanned(scores: Mapping[str, Mapping[str, Any]]) -> _Columns:
  """Returns strengths that span what each kind of direction needs."""
  strengths, ranges = {}, {}
  for kind, score in scores.items():
    low, high = (
      smallest_strength.span(score[way]["needed"])
      for way in ("absent", "present")
    )
    strengths[kind] = np.where(_SHARES < 0, low, high) * _SHARES
    ranges[kind] = f"{-low:g} to {high:g}"
  return _Columns(
    strengths,
    [f"{share:+.0%}" if share else "0" for share in _SHARES],
    ranges,
    "The strip spans the strength that "
    f"{smallest_strength.PERCENTILE}% of the images that get there need to be "
    "clearly absent (-100%) and clearly present (+100%).",
  )


def _draw(
  edit: _Edit,
  selection: arguments.Selection,
  columns: _Columns,
  path: storage.Path,
) -> None:
  """Writes the strips of all images and kinds of directions."""
  codes = edit.model.encode(selection.image)
  rebuilt = edit.model.decode(codes)
  strips = {
    kind: attribute_edits.latent_strip(
      edit.model, codes, edit.paths, kind, edit.weights, columns.strengths[kind]
    )
    for kind in edit.kinds
  }
  linear, _ = edit.paths
  difference = sum(
    weight * linear.pixel_difference(name)
    for name, weight in edit.weights.items()
  )
  strips[attribute_edits.PIXELS] = attribute_edits.pixel_strip(
    selection.image, difference, columns.strengths[attribute_edits.PIXELS]
  )
  known = {f"strength_{k}": v for k, v in columns.strengths.items()}
  if not columns.ranges:
    known = {"strength": edit.strengths}
  storage.write_arrays(
    path.with_suffix(".npz"),
    **known,
    original=selection.image,
    reconstruction=rebuilt,
    code=codes,
    **strips,
  )
  rows, labels = [], []
  for i, image in enumerate(selection.name):
    for j, (kind, strip) in enumerate(strips.items()):
      rows.append(np.stack([selection.image[i], rebuilt[i], *strip[i]]))
      label = " ".join([kind, columns.ranges.get(kind, "")]).strip()
      labels.append(f"{image}  {label}" if j == 0 else label)
  figures.image_strip(
    rows,
    labels,
    ["original", "rebuilt", *columns.headings],
    path,
    leading=2,
    groups=[len(strips)] * len(selection),
  )


def _measure(edit: _Edit, examples: int, path: storage.Path) -> dict[str, Any]:
  """Scores the edit on the first images of the test split."""
  model = edit.model
  classifier = train_classifier.load_or_train(model.experiment)
  target = attribute_edits.target_of(classifier, edit.name)
  source = model.experiment.source("test")
  index = np.arange(min(examples, len(source)), dtype=np.int32)
  image = model.as_input(source.fetch(index)["image"], index)
  scores, predictions = attribute_edits.measure(
    model, classifier, edit.paths, image, target, edit.strengths, edit.kinds
  )
  smallest = smallest_strength.measure(
    model, classifier, edit.paths, image, target, edit.kinds
  )
  scores = {kind: {**score, **smallest[kind]} for kind, score in scores.items()}
  low, high = attribute_edits.thresholds(classifier, target)
  measured = f"factor {target.factor}" if target.factor else "probability"
  if target.sign < 0:
    measured = f"minus {measured}"
  result = {
    "attribute": edit.name,
    "target": measured,
    "clearly_absent_below": low,
    "clearly_present_above": high,
    "strength": edit.strengths.tolist(),
    "largest_strength_tried": smallest_strength.LARGEST,
    "images": len(image),
    "data_split": "test",
    "step": model.step,
    "classifier_accuracy": classifier.accuracy,
    "directions": scores,
  }
  storage.write_json(path.with_suffix(".json"), metrics.finite(result))
  figures.edit_curves(
    edit.strengths,
    {kind: p.target for kind, p in predictions.items()},
    {kind: score["change"] for kind, score in scores.items()},
    {
      kind: (score["absent"]["median"], score["present"]["median"])
      for kind, score in scores.items()
    },
    path.with_name(f"{path.stem}_curves.png"),
    title=f"{edit.name}: {len(image)} images of the test split",
    target_name=f"{measured}, as the classifier predicts it",
    clearly=(low, high),
    attribute=edit.name,
  )
  return result
