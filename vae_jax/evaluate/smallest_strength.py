"""The smallest strength at which an edit reaches its target, image by image.

At one strength for all, a kind of direction whose unit is long succeeds and
falls apart, and one whose unit is short does neither. So each kind is measured
where each image has just become what was asked for:

  s(x) = inf {s > 0: t(edit(x, s)) > high}, for the attribute to be present,
  s(x) = inf {s > 0: t(edit(x, -s)) < low}, for it to be absent,

where t is the target that the classifier predicts and (low, high) are
`attribute_edits.thresholds`. Strengths 0, STEP, 2 STEP, ... are tried, up to
LARGEST; between the last that does not reach the target and the first that does
t is taken to be linear. An image that no strength brings there has s = inf. One
that is there at strength 0 needs no edit and is left out.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from vae_jax.evaluate import attribute_edits
from vae_jax.evaluate.attribute_classifier import AttributeClassifier
from vae_jax.evaluate.attribute_edits import Target
from vae_jax.latents import coder, nonlinear_directions, trained_model
from vae_jax.runtime import bars

LARGEST = 6.0  # Largest strength that is tried, in units of the direction.
STEP = 0.25  # Between strengths that are tried.
PERCENTILE = 90  # Of s(x) over the images that get there: what a strip spans.
WAYS = {"present": 1, "absent": -1}  # Signs of the strengths.

Points = Float32[np.ndarray, "n ..."]


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
  """Edits of images by small steps.

  Attributes:
    start: where strength is 0: codes, or images for arithmetic on pixels.
    move: returns points that are moved by a strength of either sign.
    render: returns the images of points.
  """

  start: Points
  move: Callable[[Points, float], Points]
  render: Callable[[Points], UInt8[np.ndarray, "n h w c"]]


@dataclasses.dataclass(frozen=True, eq=False)
class Reach:
  """How far images have to be moved in one of the `WAYS`.

  Attributes:
    strength: s(x) >= 0; inf = never; NaN for images that are there already.
    points: the points at s(x), and the starts of all others.
  """

  strength: Float[np.ndarray, " n"]
  points: Points

  @property
  def reached(self) -> Bool[np.ndarray, " n"]:
    """Whether a strength brings the image there."""
    return np.isfinite(self.strength)

  def median(self) -> float | None:
    """Returns the median of s(x), for which never is more than any number;
    None if that is never, or no image is left."""
    left = self.strength[~np.isnan(self.strength)]
    middle = float(np.median(left)) if len(left) else np.inf
    return middle if np.isfinite(middle) else None

  def never(self) -> float | None:
    """Returns the share of images that no strength brings there, of those that
    are not there already; None if there are none."""
    left = self.strength[~np.isnan(self.strength)]
    return float(np.isinf(left).mean()) if len(left) else None

  def needed(self) -> float | None:
    """Returns the percentile `PERCENTILE` of s(x) over the images that get
    there; None if none does."""
    strength = self.strength[self.reached]
    return float(np.percentile(strength, PERCENTILE)) if len(strength) else None


def span(needed: float | None) -> float:
  """Returns the end of a range of strengths that spans `Reach.needed`, rounded
  up to 0.05; 3 if no image gets there."""
  if needed is None:
    return 3.0
  return max(0.05, round(math.ceil(20 * needed - 1e-9) / 20, 2))


def latent_track(
  model: trained_model.TrainedModel,
  codes: Float32[np.ndarray, "n d"],
  paths: attribute_edits.Paths,
  kind: str,
  attribute: str,
) -> Track:
  """Returns the edits of `attribute_edits.latent_strip`, by steps.

  Raises:
    ConfigError: there is no such attribute or kind, or it does not vary.
  """
  linear, nonlinear = paths
  linear.check(attribute)
  if kind == nonlinear_directions.KIND:

    def move(points: Points, strength: float) -> Points:
      # Padded, because each number of codes is compiled anew. A path is a
      # flow: its pieces, walked one after the other, are the path.
      full = coder.padded(points, len(codes))
      ends = nonlinear.walk(full, {attribute: 1.0}, np.array([strength]))
      return ends[: len(points), 0]

  else:
    vector = linear.vector(attribute, kind).astype(np.float32)

    def move(points: Points, strength: float) -> Points:
      return points + np.float32(strength) * vector

  return Track(codes, move, model.decode)


def pixel_track(
  images: UInt8[np.ndarray, "n h w c"], difference: Float32[np.ndarray, "h w c"]
) -> Track:
  """Returns the edits of `attribute_edits.pixel_strip`, by steps."""
  return Track(
    images.astype(np.float32),
    lambda points, s: points + np.float32(s) * difference.astype(np.float32),
    lambda points: np.clip(np.round(points), 0, 255).astype(np.uint8),
  )


def find(
  classifier: AttributeClassifier,
  track: Track,
  target: Target,
  way: str,
  *,
  step: float = STEP,
) -> Reach:
  """Returns the smallest strengths of all images of a track, one of `WAYS`.

  Only images that are not there yet are moved on.
  """
  sign = WAYS[way]
  low, high = attribute_edits.thresholds(classifier, target)
  # Of the target times the sign, which rises in both ways.
  level = sign * (high if sign > 0 else low)

  def measure(points: Points) -> Float[np.ndarray, " m"]:
    predictions = classifier.predict(track.render(points))
    values = attribute_edits.target_values(classifier, predictions, target)
    return sign * values.astype(np.float64)

  before, value = track.start.copy(), measure(track.start)
  points = track.start.copy()
  strength = np.where(value > level, np.nan, np.inf)
  on = np.flatnonzero(np.isinf(strength))
  for i in range(round(LARGEST / step)):
    if not len(on):
      break
    after = track.move(before[on], sign * step)
    now = measure(after)
    hit = now > level
    there, then = on[hit], value[on[hit]]
    share = (level - then) / (now[hit] - then)  # From 0 to less than 1.
    strength[there] = (i + share) * step
    share = share.astype(np.float32).reshape(-1, *[1] * (points.ndim - 1))
    points[there] = before[there] + share * (after[hit] - before[there])
    before[on], value[on] = after, now
    on = on[~hit]
  return Reach(strength, points)


def score(
  classifier: AttributeClassifier,
  track: Track,
  reach: Reach,
  target: Target,
  way: str,
) -> dict[str, Any]:
  """Returns what one way of editing needs, and what else it changes.

  images       number of images that are not there at strength 0
  median       of s(x) over them; None if half or more are never there
  never        share of them that no strength up to `LARGEST` brings there
  needed       90th percentile of s(x) over those that get there
  side_effect, worst, identity
               as in `attribute_edits.score`, from strength 0 to s(x), each
               image at its own, over those that get there
  """
  chosen = reach.reached
  result = {
    "images": int((~np.isnan(reach.strength)).sum()),
    "median": reach.median(),
    "never": reach.never(),
    "needed": reach.needed(),
  }
  if not chosen.any():
    nothing = {"attribute": None, "side_effect": None}
    return {**result, "side_effect": None, "worst": nothing, "identity": None}
  unedited = classifier.predict(track.render(track.start))
  edited = classifier.predict(track.render(reach.points[chosen]))
  change = edited.probability - unedited.probability[chosen]
  moved = edited.features - unedited.features[chosen]
  distance = np.sqrt((moved**2).sum(axis=1))
  scale = attribute_edits.mean_distance(unedited.features)
  effects = attribute_edits.side_effects(
    classifier, WAYS[way] * change, target.attribute
  )
  return {**result, **effects, "identity": float(distance.mean() / scale)}


def measure(
  model: trained_model.TrainedModel,
  classifier: AttributeClassifier,
  paths: attribute_edits.Paths,
  images: UInt8[np.ndarray, "n h w c"],
  target: Target,
  kinds: tuple[str, ...],
) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns the `score` of each kind of direction, and of arithmetic on pixels,
  by kind and by way.

  Args:
    images: held-out images, as the model's input.
    kinds: some of `attribute_edits.KINDS`.
  """
  codes = model.encode(images)
  attribute = target.attribute
  tracks = {k: latent_track(model, codes, paths, k, attribute) for k in kinds}
  difference = paths[0].pixel_difference(attribute)
  tracks[attribute_edits.PIXELS] = pixel_track(images, difference)
  scores: dict[str, dict[str, dict[str, Any]]] = {k: {} for k in tracks}
  pairs = [(kind, way) for kind in tracks for way in WAYS]
  with bars.Bar(len(pairs), "finding smallest strengths", "ways") as bar:
    for kind, way in pairs:
      reach = find(classifier, tracks[kind], target, way)
      scores[kind][way] = score(classifier, tracks[kind], reach, target, way)
      bar.update(1)
  return scores
