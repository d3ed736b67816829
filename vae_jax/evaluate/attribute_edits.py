"""Scores of edits: how much the target attribute changes, and what else."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from vae_jax.data.synthetic_faces import factors as face_factors
from vae_jax.evaluate.attribute_classifier import (
  AttributeClassifier,
  Predictions,
)
from vae_jax.latents import directions, nonlinear_directions, trained_model

Paths = tuple[directions.Directions, nonlinear_directions.NonlinearDirections]
Images = UInt8[np.ndarray, "n h w c"]
Strips = UInt8[np.ndarray, "n s h w c"]
Strengths = Float[np.ndarray, " s"]
KINDS = (*directions.KINDS, nonlinear_directions.KIND)
PIXELS = "pixels"  # The baseline: the difference of the mean images.
# Decreases of the target below this share of its range count as noise.
_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Target:
  """The attribute that an edit should increase."""

  attribute: str
  factor: str = ""  # The real factor of which it is a threshold, if any.
  sign: int = 1  # -1 if small values of the factor give the attribute.


@dataclasses.dataclass(frozen=True, eq=False)
class StripPredictions:
  """Predictions of the classifier along strips of edits."""

  # Factor (times its sign) or probability of the target.
  target: Float32[np.ndarray, "n s"]
  probability: Float32[np.ndarray, "n s a"]  # Of all attributes.
  factor: Float32[np.ndarray, "n s f"]  # All real factors.
  # Euclidean distance of the features from those at strength 0.
  distance: Float32[np.ndarray, "n s"]


def latent_strip(
  model: trained_model.TrainedModel,
  codes: Float32[np.ndarray, "n d"],
  paths: Paths,
  kind: str,
  weights: Mapping[str, float | int],
  strengths: Strengths,
) -> Strips:
  """Decodes each code at each strength of an edit.

  Along a direction v these are decode(code + strength * v), where v is the
  weighted sum of the attributes' directions; along nonlinear paths see
  `nonlinear_directions`.

  Raises:
    ConfigError: there is no such attribute or kind, or it does not vary.
  """
  linear, nonlinear = paths
  for name in weights:
    linear.check(name)
  if kind == nonlinear_directions.KIND:
    edited = nonlinear.walk(codes, weights, strengths)
  else:
    vector = sum(w * linear.vector(a, kind) for a, w in weights.items())
    edited = codes[:, None] + strengths[:, None].astype(np.float32) * vector
  images = model.decode(edited.reshape(-1, codes.shape[1]).astype(np.float32))
  return images.reshape(len(codes), len(strengths), *images.shape[1:])


def pixel_strip(
  images: Images, difference: Float32[np.ndarray, "h w c"], strengths: Strengths
) -> Strips:
  """Returns image + strength * difference, clipped to [0, 255]: the baseline
  that needs no latent space."""
  scaled = strengths[:, None, None, None].astype(np.float32) * difference
  edited = images[:, None].astype(np.float32) + scaled
  return np.clip(np.round(edited), 0, 255).astype(np.uint8)


def predict(
  classifier: AttributeClassifier,
  strips: Strips,
  unedited: Images,
  target: Target,
) -> StripPredictions:
  """Applies the classifier to strips; `unedited` is at strength 0."""
  edited = classifier.predict(strips.reshape(-1, *strips.shape[2:]))
  values = target_values(classifier, edited, target)
  probability, factor, features = (
    v.reshape(*strips.shape[:2], -1)
    for v in (edited.probability, edited.factor, edited.features)
  )
  change = features - classifier.predict(unedited).features[:, None]
  distance = np.sqrt((change**2).sum(axis=-1))
  values = values.reshape(strips.shape[:2])
  return StripPredictions(values, probability, factor, distance)


def target_values(
  classifier: AttributeClassifier, predictions: Predictions, target: Target
) -> Float32[np.ndarray, " n"]:
  """Returns the target's factor, times its sign, or its probability."""
  if target.factor:
    column = classifier.factors.index(target.factor)
    return target.sign * predictions.factor[:, column]
  column = classifier.names.index(target.attribute)
  return predictions.probability[:, column]


def target_of(classifier: AttributeClassifier, attribute: str) -> Target:
  """Returns the factor behind a drawn attribute, else the attribute."""
  factor, sign, _ = face_factors.THRESHOLDS.get(attribute, ("", 1, 0))
  if factor in classifier.factors:
    return Target(attribute, factor, sign)
  return Target(attribute)


def thresholds(
  classifier: AttributeClassifier, target: Target
) -> tuple[float, float]:
  """Returns the values below which the target is clearly absent and above
  which it is clearly present: the quartiles of its factor over the training
  images, or probabilities of 1/4 and 3/4."""
  if not target.factor:
    return 0.25, 0.75
  column = classifier.factors.index(target.factor)
  low, high = sorted(target.sign * classifier.quartiles[[0, 2], column])
  return float(low), float(high)


def score(
  classifier: AttributeClassifier,
  predictions: StripPredictions,
  unedited: Images,
  target: Target,
) -> dict[str, Any]:
  """Returns the scores of the strips of one kind of direction.

  success      share of images whose target is clearly absent at the first
               strength and clearly present at the last, see `thresholds`
  monotone     share of images whose target decreases at no step by more than
               0.02 of the distance between these thresholds
  side_effect  mean over images and other attributes of the absolute change of
               their probability from end to end of the strip, divided by the
               mean change of the target attribute's probability
  worst        the other attribute with the largest such change, and its value
  identity     mean distance of the ends of the strip from strength 0 in the
               classifier's features, divided by the mean distance between two
               images of `unedited`: 0 is the same image, 1 another one
  """
  low, high = thresholds(classifier, target)
  values = predictions.target
  success = (values[:, 0] < low) & (values[:, -1] > high)
  decreases = np.diff(values, axis=1) < -_TOLERANCE * (high - low)
  change = predictions.probability[:, -1] - predictions.probability[:, 0]
  ends, means = predictions.distance[:, [0, -1]], change.mean(axis=0)
  scale = mean_distance(classifier.predict(unedited).features)
  return {
    "success": float(success.mean()),
    "monotone": float(1 - decreases.any(axis=1).mean()),
    **side_effects(classifier, change, target.attribute),
    "identity": float(ends.mean() / scale),
    "target_at_ends": [float(values[:, 0].mean()), float(values[:, -1].mean())],
    "change": dict(zip(classifier.names, means.tolist(), strict=True)),
  }


def side_effects(
  classifier: AttributeClassifier,
  change: Float[np.ndarray, "n a"],
  attribute: str,
) -> dict[str, Any]:
  """Returns the scores `side_effect` and `worst` of changes of probabilities,
  of which the edited attribute's should rise."""
  own = classifier.names.index(attribute)
  gain = float(change[:, own].mean())
  others = np.delete(np.abs(change).mean(axis=0), own)
  names = [n for n in classifier.names if n != attribute]
  ratio = others / gain if gain > 0 and names else None
  return {
    "side_effect": None if ratio is None else float(ratio.mean()),
    "worst": {
      "attribute": names[int(others.argmax())] if names else None,
      "side_effect": None if ratio is None else float(ratio.max()),
    },
  }


def mean_distance(features: Float[np.ndarray, "n k"]) -> float:
  """Returns the mean distance of two different images' features; 1 if there is
  only one image."""
  features = features.astype(np.float64)
  squares = (features**2).sum(axis=1)
  products = features @ features.T
  squared = np.maximum(squares[:, None] + squares - 2 * products, 0)
  pairs = len(features) * (len(features) - 1)
  return float(np.sqrt(squared).sum() / pairs) if pairs else 1.0


def measure(
  model: trained_model.TrainedModel,
  classifier: AttributeClassifier,
  paths: Paths,
  images: Images,
  target: Target,
  strengths: Strengths,
  kinds: tuple[str, ...],
) -> tuple[dict[str, dict[str, Any]], dict[str, StripPredictions]]:
  """Edits images along each kind of direction and scores the edits.

  Args:
    images: held-out images, as the model's input.
    strengths: ascending.
    kinds: some of `KINDS`.

  Returns:
    Scores and predictions by kind, `PIXELS` included.
  """
  codes = model.encode(images)
  reconstructions = model.decode(codes)
  scores, predictions = {}, {}
  for kind in (*kinds, PIXELS):
    if kind == PIXELS:
      difference = paths[0].pixel_difference(target.attribute)
      strips, unedited = pixel_strip(images, difference, strengths), images
    else:
      weights = {target.attribute: 1.0}
      strips = latent_strip(model, codes, paths, kind, weights, strengths)
      unedited = reconstructions
    predictions[kind] = predict(classifier, strips, unedited, target)
    scores[kind] = score(classifier, predictions[kind], unedited, target)
  return scores, predictions
