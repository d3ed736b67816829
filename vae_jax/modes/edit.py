"""`--mode=edit`: faces along an attribute, in pictures and in numbers."""

import re
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data.synthetic_faces import dataset
from vae_jax.evaluate import (
  attribute_classifier,
  attribute_edits,
  train_classifier,
)
from vae_jax.latents import directions, trained_model
from vae_jax.modes import attributes, image_argument
from vae_jax.modes import options as options_lib
from vae_jax.runtime import storage
from vae_jax.training import metrics

_FOLDER = "edit"
_IMAGES = "data:test:0-3"
_STRENGTH = "-3:3:0.5"
_EXAMPLES = 200
_MOST = 61  # Strengths of a strip.


def weights(text: str, known: tuple[str, ...]) -> dict[str, float]:
  """Returns the weight of each attribute in "Smiling=2,Eyeglasses=-1".

  An attribute without a weight has 1.

  Raises:
    ConfigError: something is no attribute, no number, or there twice.
  """
  found: dict[str, float] = {}
  for part in text.split(","):
    # An attribute may have any character in its name but these two.
    name, equals, value = part.strip().partition("=")
    if name not in known:
      raise ConfigError(directions.unknown(name, known))
    if name in found:
      raise ConfigError(f"--attribute={text} names {name} twice.")
    try:
      found[name] = float(value) if equals else 1.0
    except ValueError:
      found[name] = np.nan
    if not np.isfinite(found[name]):
      raise ConfigError(
        f"--attribute={text}: the weight of {name} is {value!r}; it must be a "
        f"number, as in {name}=2."
      )
  return found


def strengths(text: str) -> np.ndarray:
  """Returns the strengths that "-3:3:0.5" means, both ends among them.

  Raises:
    ConfigError: it is no such thing, or it means too many of them.
  """
  wrong = ConfigError(
    f"--strength is {text!r}; it must be FIRST:LAST:STEP with FIRST < LAST and "
    f"STEP > 0 from one to the other, at most {_MOST} strengths, as -3:3:0.5."
  )
  try:
    first, last, step = (float(part) for part in text.split(":"))
  except ValueError:
    raise wrong from None
  if not (np.isfinite([first, last, step]).all() and step > 0 and first < last):
    raise wrong
  count = round(min((last - first) / step, _MOST)) + 1
  if count > _MOST or abs(first + step * (count - 1) - last) > 1e-6 * step:
    raise wrong
  # Rounded, so that 0 is 0.
  return np.round(first + step * np.arange(count), 9)


def kinds(text: str) -> tuple[str, ...]:
  """Returns the kinds of directions in "mean,probe".

  Raises:
    ConfigError: one of them does not exist.
  """
  chosen = tuple(part.strip() for part in text.split(","))
  for kind in chosen:
    if kind not in attribute_edits.KINDS:
      raise ConfigError(
        f"--direction={text}: {kind!r} must be one of {', '.join(attribute_edits.KINDS)}."
      )
  return chosen


def edit(config: ConfigDict, workdir: str, options: options_lib.Options) -> str:
  """Edits images along an attribute; draws the strip and measures the edit.

  Writes to `<workdir>/edit/`: `<attribute>.png` and `.npz`, the strip of each
  image, original and reconstruction first, a row for each kind of direction
  and one for arithmetic on pixels; and, of one attribute without a weight, `<attribute>.json`
  and `<attribute>_curves.png`, the scores of the edits of held-out
  images by a classifier of attributes.

  Raises:
    ConfigError: an option is wrong, or the run has no attributes.
  """
  if options.attribute is None:
    raise ConfigError("--mode=edit needs an attribute, as --attribute=Smiling.")
  steps = strengths(options.strength or _STRENGTH)
  chosen = kinds(options.direction or ",".join(attribute_edits.KINDS))
  examples = _EXAMPLES if options.examples is None else options.examples
  if examples < 0:
    raise ConfigError(
      f"--examples is {examples}; it must be 0, not to measure the edit, or "
      "more."
    )
  model = trained_model.open_run(config, workdir)
  paths = attributes.directions_of(model)
  mixed = weights(options.attribute, paths[0].names)
  selection = image_argument.select(model, options.images, _IMAGES)
  name = "_".join(
    attribute + ("" if weight == 1 else f"_{weight:g}")
    for attribute, weight in mixed.items()
  )
  stem = re.sub(r"[^\w.+-]", "_", name)
  path = model.workdir / _FOLDER / f"{stem}.png"
  _draw(model, paths, mixed, selection, steps, chosen, path)
  measured = path.with_suffix(".json"), path.with_name(f"{stem}_curves.png")
  for stale in measured:
    stale.unlink(missing_ok=True)
  if list(mixed.values()) != [1.0] or not examples:
    return str(path)
  return _measure(model, paths, name, steps, chosen, examples, path)


def _draw(
  model: trained_model.TrainedModel,
  paths: attribute_edits.Paths,
  mixed: dict[str, float],
  selection: image_argument.Selection,
  steps: np.ndarray,
  chosen: tuple[str, ...],
  path: storage.Path,
) -> None:
  codes = model.encode(selection.image)
  rebuilt = model.decode(codes)
  strips = {}
  for kind in chosen:
    strips[kind] = attribute_edits.latent_strip(
      model, codes, paths, kind, mixed, steps
    )
  difference = sum(w * paths[0].pixel_difference(a) for a, w in mixed.items())
  strips[attribute_edits.PIXELS] = attribute_edits.pixel_strip(
    selection.image, difference, steps
  )
  storage.write_arrays(
    path.with_suffix(".npz"),
    strength=steps,
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
    ["original", "rebuilt", *(f"{s:+g}" if s else "0" for s in steps)],
    path,
    leading=2,
    groups=[len(strips)] * len(selection),
  )


def _target(
  classifier: attribute_classifier.AttributeClassifier, attribute: str
) -> attribute_edits.Target:
  factor, sign = dataset.THRESHOLDS.get(attribute, ("", 1))
  if factor in classifier.factors:
    return attribute_edits.Target(attribute, factor, sign)
  return attribute_edits.Target(attribute)


def _measure(
  model: trained_model.TrainedModel,
  paths: attribute_edits.Paths,
  attribute: str,
  steps: np.ndarray,
  chosen: tuple[str, ...],
  examples: int,
  path: storage.Path,
) -> str:
  """Scores the edit on the first images of the test split; returns a table."""
  classifier = train_classifier.load_or_train(model.experiment)
  target = _target(classifier, attribute)
  source = model.experiment.source("test")
  index = np.arange(min(examples, len(source)), dtype=np.int32)
  image = model.as_input(source.fetch(index)["image"], index)
  scores, predictions = attribute_edits.measure(
    model, classifier, paths, image, target, steps, chosen
  )
  low, high = attribute_edits.thresholds(classifier, target)
  measured = f"factor {target.factor}" if target.factor else "probability"
  if target.sign < 0:
    measured = f"minus {measured}"
  result = {
    "attribute": attribute,
    "target": measured,
    "clearly_absent_below": low,
    "clearly_present_above": high,
    "strength": steps.tolist(),
    "images": len(image),
    "data_split": "test",
    "step": model.step,
    "classifier_accuracy": classifier.accuracy,
    "directions": scores,
  }
  storage.write_json(path.with_suffix(".json"), metrics.finite(result))
  figures.edit_curves(
    steps,
    {kind: r.target for kind, r in predictions.items()},
    {kind: score["change"] for kind, score in scores.items()},
    path.with_name(f"{path.stem}_curves.png"),
    title=f"{attribute}: {len(image)} images of the test split",
    target_name=f"{measured}, as the classifier predicts it",
    clearly=(low, high),
    attribute=attribute,
  )
  return "\n".join([_table(result), str(path)])


def _table(result: dict[str, Any]) -> str:
  lines = [
    f"{result['attribute']}, measured as {result['target']} on "
    f"{result['images']} images of the test split, strengths "
    f"{result['strength'][0]:g} to {result['strength'][-1]:g}",
    f"{'direction':>10}  success  monotone  side_effect  identity  worst",
  ]
  for kind, score in result["directions"].items():
    worst = score["worst"]
    side, most = (
      "none" if v is None else f"{v:.3f}"
      for v in (score["side_effect"], worst["side_effect"])
    )
    lines.append(
      f"{kind:>10}  {score['success']:7.3f}  {score['monotone']:8.3f}  "
      f"{side:>11}  {score['identity']:8.3f}  {worst['attribute']} {most}"
    )
  return "\n".join(lines)
