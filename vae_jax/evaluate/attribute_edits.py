"""Whether an edit does what it says, and nothing else: measured by a judge."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from vae_jax.evaluate import attribute_classifier as judge_lib
from vae_jax.latents import directions, nonlinear_directions, trained_model

Paths = tuple[directions.Directions, nonlinear_directions.NonlinearDirections]

KINDS = (*directions.KINDS, nonlinear_directions.KIND)
PIXELS = "pixels"  # The baseline: the difference of the mean images.
# A fall of the target below this share of its spread is the judge's noise.
_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Target:
  """What an edit shall raise.

  Attributes:
    attribute: its name.
    factor: the real factor that the attribute is a threshold of, or "".
    sign: 1 if the attribute comes with large values of the factor, else -1.
  """

  attribute: str
  factor: str = ""
  sign: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Readings:
  """What the judge reads along a strip of edits.

  Attributes:
    target: factor (times its sign) or probability of the target, [n s].
    probability: of all attributes, [n s a].
    factor: of all real factors, [n s f].
    distance: of the features to those at strength 0, [n s].
  """

  target: Float32[np.ndarray, "n s"]
  probability: Float32[np.ndarray, "n s a"]
  factor: Float32[np.ndarray, "n s f"]
  distance: Float32[np.ndarray, "n s"]


def latent_strip(
  model: trained_model.TrainedModel,
  codes: Float32[np.ndarray, "n d"],
  paths: Paths,
  kind: str,
  weights: Mapping[str, float | int],
  strengths: Float[np.ndarray, " s"],
) -> UInt8[np.ndarray, "n s h w c"]:
  """Returns the pictures along a strip of each code, strength by strength.

  Along a direction v they are decode(code + strength * v), v the weighted sum
  of those of the attributes; for `curved` see `nonlinear_directions`.

  Raises:
    ConfigError: there is no such attribute or kind, or it does not vary.
  """
  linear, nonlinear = paths
  for name in weights:
    linear.check(name)
  if kind == nonlinear_directions.KIND:
    moved = nonlinear.walk(codes, weights, strengths)
  else:
    vector = sum(w * linear.vector(a, kind) for a, w in weights.items())
    moved = codes[:, None] + strengths[:, None].astype(np.float32) * vector
  images = model.decode(moved.reshape(-1, codes.shape[1]).astype(np.float32))
  return images.reshape(len(codes), len(strengths), *images.shape[1:])


def pixel_strip(
  images: UInt8[np.ndarray, "n h w c"],
  difference: Float32[np.ndarray, "h w c"],
  strengths: Float[np.ndarray, " s"],
) -> UInt8[np.ndarray, "n s h w c"]:
  """Returns image + strength * difference, pixels in [0, 255], cut off there:
  the edit that no latent space is needed for."""
  scaled = strengths[:, None, None, None].astype(np.float32) * difference
  moved = images[:, None].astype(np.float32) + scaled
  return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def read(
  judge: judge_lib.Judge,
  strips: UInt8[np.ndarray, "n s h w c"],
  unedited: UInt8[np.ndarray, "n h w c"],
  target: Target,
) -> Readings:
  """Reads each picture of some strips.

  Args:
    judge: of the data set.
    strips: edited pictures.
    unedited: the same pictures at strength 0.
    target: what the edit shall raise.
  """
  n, s = strips.shape[:2]
  seen = judge.read(strips.reshape(n * s, *strips.shape[2:]))
  before = judge.read(unedited)
  probability = seen.probability.reshape(n, s, -1)
  factor = seen.factor.reshape(n, s, -1)
  if target.factor:
    values = target.sign * factor[..., judge.factors.index(target.factor)]
  else:
    values = probability[..., judge.names.index(target.attribute)]
  moved = seen.features.reshape(n, s, -1) - before.features[:, None]
  return Readings(
    target=values,
    probability=probability,
    factor=factor,
    distance=np.sqrt((moved**2).sum(axis=-1)),
  )


def clearly(judge: judge_lib.Judge, target: Target) -> tuple[float, float]:
  """Returns the values below and above which the target is clearly absent and
  clearly present: the quartiles of its factor over the training images, or
  probabilities of 1/4 and 3/4."""
  if not target.factor:
    return 0.25, 0.75
  column = judge.factors.index(target.factor)
  low, high = sorted(target.sign * judge.quartiles[[0, 2], column])
  return float(low), float(high)


def score(
  judge: judge_lib.Judge,
  readings: Readings,
  unedited: UInt8[np.ndarray, "n h w c"],
  target: Target,
) -> dict[str, Any]:
  """Returns what the strips of one kind of direction amount to.

  success      share of images whose target is clearly absent at the first
               strength and clearly present at the last, see `clearly`
  monotone     share whose target falls at no step by more than 0.02 of the
               distance between those two values
  side_effect  mean over images and other attributes of the change of their
               probability between the ends of the strip, absolute, divided by
               the mean change of the target attribute's probability
  worst        the other attribute that changes most, and by how much on that
               scale
  identity     mean distance of the ends of the strip from strength 0 in the
               judge's features, divided by the mean distance between two
               different pictures of `unedited`: 0 is the same picture, 1 as
               far as another one

  Args:
    judge: that made the readings.
    readings: of `read`.
    unedited: the pictures at strength 0.
    target: what the edit shall raise.
  """
  low, high = clearly(judge, target)
  values = readings.target
  success = (values[:, 0] < low) & (values[:, -1] > high)
  falls = np.diff(values, axis=1) < -_TOLERANCE * (high - low)
  change = readings.probability[:, -1] - readings.probability[:, 0]
  own = judge.names.index(target.attribute)
  gain = float(change[:, own].mean())
  others = np.delete(np.abs(change).mean(axis=0), own)
  other_names = [n for n in judge.names if n != target.attribute]
  ratio = others / gain if gain > 0 and len(others) else None
  ends = readings.distance[:, [0, -1]]
  return {
    "success": float(success.mean()),
    "monotone": float(1 - falls.any(axis=1).mean()),
    "side_effect": None if ratio is None else float(ratio.mean()),
    "worst": {
      "attribute": other_names[int(others.argmax())] if len(others) else None,
      "side_effect": None if ratio is None else float(ratio.max()),
    },
    "identity": float(ends.mean() / _mean_distance(judge, unedited)),
    "target_at_ends": [float(values[:, 0].mean()), float(values[:, -1].mean())],
    "change": {
      name: float(v)
      for name, v in zip(judge.names, change.mean(axis=0), strict=True)
    },
  }


def _mean_distance(
  judge: judge_lib.Judge, images: UInt8[np.ndarray, "n h w c"]
) -> float:
  """Mean distance of the features of two different images."""
  features = judge.read(images).features.astype(np.float64)
  squares = (features**2).sum(axis=1)
  products = features @ features.T
  squared = np.maximum(squares[:, None] + squares - 2 * products, 0)
  count = len(images) * (len(images) - 1)
  # Of a single image there is no other one; the distance is in plain units.
  return float(np.sqrt(squared).sum() / count) if count else 1.0


def measure(
  model: trained_model.TrainedModel,
  judge: judge_lib.Judge,
  paths: Paths,
  images: UInt8[np.ndarray, "n h w c"],
  target: Target,
  strengths: Float[np.ndarray, " s"],
  kinds: tuple[str, ...],
) -> tuple[dict[str, dict[str, Any]], dict[str, Readings]]:
  """Edits images along each kind of direction and scores the edits.

  Args:
    model: the model.
    judge: of its data set.
    paths: linear and nonlinear directions of the model.
    images: held-out images, as the model is given them.
    target: what to raise.
    strengths: ascending.
    kinds: of directions, of `KINDS`.

  Returns:
    Scores and readings by kind, `PIXELS` among them.
  """
  codes = model.encode(images)
  rebuilt = model.decode(codes)
  scores, readings = {}, {}
  for kind in (*kinds, PIXELS):
    if kind == PIXELS:
      difference = paths[0].pixel_difference(target.attribute)
      strips, unedited = pixel_strip(images, difference, strengths), images
    else:
      weights = {target.attribute: 1.0}
      strips = latent_strip(model, codes, paths, kind, weights, strengths)
      unedited = rebuilt
    readings[kind] = read(judge, strips, unedited, target)
    scores[kind] = score(judge, readings[kind], unedited, target)
  return scores, readings
