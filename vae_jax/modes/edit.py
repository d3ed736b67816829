"""Edits images along an attribute and measures it, to <workdir>/edit/."""

import re
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data.synthetic_faces import factors as face_factors
from vae_jax.evaluate import attribute_edits, train_classifier
from vae_jax.evaluate.attribute_classifier import AttributeClassifier
from vae_jax.latents import attribute_directions, directions, trained_model
from vae_jax.modes import arguments
from vae_jax.runtime import storage
from vae_jax.training import metrics

NEEDS = "run"

_MAX_STRENGTHS = 61  # Columns of a strip.


class _Edit(NamedTuple):
  """What is edited, and how."""

  model: trained_model.TrainedModel
  paths: attribute_edits.Paths
  weights: dict[str, float]  # by attribute
  strengths: np.ndarray  # ascending
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
  strength: str = "-3:3:0.5",
  direction: str = ",".join(attribute_edits.KINDS),
  images: str | None = None,
  examples: int = 200,
) -> str:
  """Edits images along an attribute; returns the scores of the edit.

  Writes to `<workdir>/edit/`: `<attribute>.png` and `.npz`, a strip for each
  image and kind of direction, and one for arithmetic on pixels; and, for one
  attribute without a weight, the scores of a classifier of attributes on
  held-out images as `<attribute>.json` and `<attribute>_curves.png`.

  Args:
    attribute: see `parse_weights`.
    strength: see `parse_strengths`.
    direction: kinds of directions, separated by commas.
    images: see `arguments`; None = the first 4 test images.
    examples: number of test images that the edit is scored on; 0 = no scores.

  Raises:
    ConfigError: an argument is wrong, or the run has no attributes.
  """
  if attribute is None:
    raise ConfigError("--mode=edit needs an attribute, as --attribute=Smiling.")
  strengths = parse_strengths(strength)
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
  _draw(edit, selection, path)
  for old in (path.with_suffix(".json"), path.with_name(f"{stem}_curves.png")):
    old.unlink(missing_ok=True)
  if list(weights.values()) != [1.0] or not examples:
    return str(path)
  return _measure(edit, examples, path)


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


def _draw(
  edit: _Edit, selection: arguments.Selection, path: storage.Path
) -> None:
  """Writes the strips of all images and kinds of directions."""
  codes = edit.model.encode(selection.image)
  rebuilt = edit.model.decode(codes)
  strips = {
    kind: attribute_edits.latent_strip(
      edit.model, codes, edit.paths, kind, edit.weights, edit.strengths
    )
    for kind in edit.kinds
  }
  linear, _ = edit.paths
  difference = sum(
    weight * linear.pixel_difference(name)
    for name, weight in edit.weights.items()
  )
  strips[attribute_edits.PIXELS] = attribute_edits.pixel_strip(
    selection.image, difference, edit.strengths
  )
  storage.write_arrays(
    path.with_suffix(".npz"),
    strength=edit.strengths,
    original=selection.image,
    reconstruction=rebuilt,
    code=codes,
    **strips,
  )
  rows, labels = [], []
  for i, image in enumerate(selection.name):
    for j, (kind, strip) in enumerate(strips.items()):
      rows.append(np.stack([selection.image[i], rebuilt[i], *strip[i]]))
      labels.append(f"{image}  {kind}" if j == 0 else kind)
  figures.image_strip(
    rows,
    labels,
    ["original", "rebuilt", *(f"{s:+g}" if s else "0" for s in edit.strengths)],
    path,
    leading=2,
    groups=[len(strips)] * len(selection),
  )


def target_of(
  classifier: AttributeClassifier, attribute: str
) -> attribute_edits.Target:
  """Returns the factor behind a drawn attribute, else the attribute."""
  factor, sign, _ = face_factors.THRESHOLDS.get(attribute, ("", 1, 0))
  if factor in classifier.factors:
    return attribute_edits.Target(attribute, factor, sign)
  return attribute_edits.Target(attribute)


def _measure(edit: _Edit, examples: int, path: storage.Path) -> str:
  """Scores the edit on the first images of the test split; returns a table."""
  model = edit.model
  classifier = train_classifier.load_or_train(model.experiment)
  target = target_of(classifier, edit.name)
  source = model.experiment.source("test")
  index = np.arange(min(examples, len(source)), dtype=np.int32)
  image = model.as_input(source.fetch(index)["image"], index)
  scores, predictions = attribute_edits.measure(
    model, classifier, edit.paths, image, target, edit.strengths, edit.kinds
  )
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
    path.with_name(f"{path.stem}_curves.png"),
    title=f"{edit.name}: {len(image)} images of the test split",
    target_name=f"{measured}, as the classifier predicts it",
    clearly=(low, high),
    attribute=edit.name,
  )
  return "\n".join([_table(result), str(path)])


def _table(result: dict[str, Any]) -> str:
  lines = [
    f"{result['attribute']}, measured as {result['target']} on "
    f"{result['images']} images of the test split, strengths "
    f"{result['strength'][0]:g} to {result['strength'][-1]:g}",
    f"{'direction':>10}  success  monotone  side_effect  identity  largest",
  ]
  for kind, score in result["directions"].items():
    worst = score["worst"]
    mean, largest = (
      "none" if v is None else f"{v:.3f}"
      for v in (score["side_effect"], worst["side_effect"])
    )
    lines.append(
      f"{kind:>10}  {score['success']:7.3f}  {score['monotone']:8.3f}  "
      f"{mean:>11}  {score['identity']:8.3f}  {worst['attribute']} {largest}"
    )
  return "\n".join(lines)
