"""How far the sliders of attributes go: as far as edits of test images need."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
from absl import logging

from vae_jax.config import ConfigError
from vae_jax.evaluate import (
  attribute_edits,
  smallest_strength,
  train_classifier,
)
from vae_jax.evaluate.attribute_classifier import AttributeClassifier
from vae_jax.latents import attribute_directions, opened, trained_model
from vae_jax.runtime import bars, storage

STRENGTH = 3.0  # Of a slider's ends where it is not known what edits need.
IMAGES = 16  # Test images that are edited.
_STEP = 0.5  # Between strengths that are tried.
_FILE = "ranges.json"
# Incremented when the same model and classifier would give other ranges.
_VERSION = 1

# (absent, present), the largest strengths >= 0 of both ways, by kind of
# direction and attribute.
Ranges = Mapping[str, Mapping[str, tuple[float, float]]]


def of_model(
  model: trained_model.TrainedModel, names: tuple[str, ...]
) -> Ranges | None:
  """Returns what edits of `IMAGES` test images need, `smallest_strength.span`,
  or None where the attribute classifier of the data set is not cached.

  They are kept in the run's folder of directions; no classifier is trained.

  Args:
    model: the model, whatever its chunk.
    names: of the attributes that have a direction.

  Raises:
    ConfigError: the classifier's file is damaged.
  """
  path = train_classifier.path_of(model.experiment) if names else None
  if path is None or not path.exists():
    return None
  key = {
    "version": _VERSION,
    "made_from": attribute_directions.fingerprint(model),
    "classifier": path.name,
    "names": list(names),
  }
  file = model.workdir / attribute_directions.FOLDER / _FILE
  try:
    with storage.parsing(file, "it is made again"):
      kept = json.loads(file.read_text()) if file.exists() else {}
      if kept.get("key") == key:
        return {
          kind: {name: (low, high) for name, (low, high) in spans.items()}
          for kind, spans in kept["ranges"].items()
        }
  except ConfigError as error:
    logging.warning("%s", error)
  classifier = train_classifier.load_or_train(model.experiment)
  chunk = min(opened.CHUNK, IMAGES)
  made = measure(dataclasses.replace(model, chunk=chunk), classifier, names)
  storage.write_json(file, {"key": key, "ranges": made})
  return made


def measure(
  model: trained_model.TrainedModel,
  classifier: AttributeClassifier,
  names: tuple[str, ...],
) -> Ranges:
  """Returns the ranges of attributes, with a progress bar."""
  source = model.experiment.source("test")
  index = np.arange(min(IMAGES, len(source)), dtype=np.int32)
  codes = model.encode(model.as_input(source.fetch(index)["image"], index))
  paths = attribute_directions.directions_of(model)
  ranges: dict[str, dict[str, tuple[float, float]]] = {
    kind: {} for kind in attribute_edits.KINDS
  }
  pairs = [(kind, name) for kind in ranges for name in names]
  with bars.Bar(len(pairs), "measuring sliders", "ranges") as bar:
    for kind, name in pairs:
      track = smallest_strength.latent_track(model, codes, paths, kind, name)
      target = attribute_edits.target_of(classifier, name)
      low, high = (
        smallest_strength.find(classifier, track, target, way, step=_STEP)
        for way in ("absent", "present")
      )
      ranges[kind][name] = (
        smallest_strength.span(low.needed()),
        smallest_strength.span(high.needed()),
      )
      bar.update(1)
  return ranges


def strength(
  ranges: Ranges | None, kind: str, name: str, value: float | int
) -> float:
  """Returns the strength that a slider's value means: a percentage of what
  edits need, or the strength itself where that is not known."""
  if ranges is None:
    return float(value)
  low, high = ranges[kind][name]
  return value / 100 * (high if value > 0 else low)


def words(ranges: Ranges | None) -> str:
  """Returns what the sliders of attributes mean, for the visitor."""
  if ranges is None:
    return (
      f"Sliders go from strength {-STRENGTH:g} to {STRENGTH:g}. Once "
      "--mode=edit has trained the attribute classifier, they span what edits "
      "need."
    )
  return (
    f"100% is the strength that {smallest_strength.PERCENTILE}% of {IMAGES} "
    "test pictures need to show an attribute clearly, -100% to clearly not "
    "show it, measured for each attribute and kind of direction."
  )
