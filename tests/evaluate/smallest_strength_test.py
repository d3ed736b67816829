"""Smallest strengths of edits, against closed forms of linear edits."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.evaluate.attribute_edits_test import Decoder, classifier, paths
from vae_jax.evaluate import attribute_edits as edits
from vae_jax.evaluate import smallest_strength
from vae_jax.evaluate.attribute_classifier import (
  AttributeClassifier,
  Predictions,
)
from vae_jax.evaluate.attribute_edits import Target
from vae_jax.evaluate.smallest_strength import LARGEST, STEP, Reach, Track

SMILE = Target("Smiling", "smile")
CLASS = Target("Smiling")
SLOPE = np.float32([0.5, 0.15])  # Change of a point for a strength of 1.


class LinearClassifier(AttributeClassifier):
  """A classifier of points: factor and probabilities are their numbers."""

  def predict(self, image):
    probability = np.concatenate([image, 0 * image[:, :1]], axis=1)
    return Predictions(probability, image[:, :1], image)


LINEAR = LinearClassifier(**vars(classifier(-0.3, 0.4)))


def track(start, move=None):
  start = np.float32(np.stack([start, 0 * np.asarray(start)], axis=1))
  straight = lambda points, s: points + np.float32(s) * SLOPE  # noqa: E731
  return Track(start, move or straight, lambda points: points)


@pytest.mark.parametrize(
  "target, way, wanted",
  [
    # (0.4 - x) / 0.5 of those at most 0.4; one at 0.4 has yet to pass it.
    (SMILE, "present", [np.inf, 1.8, 0.8, 0.52, 0.0, np.nan]),
    # (x + 0.3) / 0.5 of those that are at least -0.3.
    (SMILE, "absent", [np.nan, np.nan, 0.6, 0.88, 1.4, 1.8]),
    # Where it is minus the factor, absent is above 0.4 and present below -0.3.
    (Target("Smiling", "smile", -1), "absent", [np.inf, 1.8, 0.8, 0.52, 0, -1]),
    # Probabilities, as of classes: 1/4 and 3/4.
    (CLASS, "present", [np.inf, 2.5, 1.5, 1.22, 0.7, 0.3]),
    (CLASS, "absent", [np.nan, np.nan, np.nan, np.nan, 0.3, 0.7]),
  ],
)
def test_smallest_strength_has_its_closed_form(target, way, wanted):
  start = [-2.7, -0.5, 0.0, 0.14, 0.4, 0.6]
  run = track(start)
  if target.sign < 0:
    # Away from a low factor is towards a high one.
    run = dataclasses.replace(run, move=lambda p, s: track([0]).move(p, -s))
    wanted = [np.nan if w == -1 else w for w in wanted]
  reach = smallest_strength.find(LINEAR, run, target, way)
  # -2.7 would need 6.2, 6.9.
  assert_allclose(reach.strength, wanted, atol=2e-5)
  there = reach.reached
  assert_array_equal(reach.points[~there], run.start[~there])
  levels = edits.thresholds(LINEAR, target)
  level = target.sign * levels[way == "present"]
  assert_allclose(reach.points[there, 0], level, atol=1e-6)


def test_first_crossing_counts_and_between_steps_is_linear():
  # Above 0.4 from 1.0 on, back below it at 2.25, above it again.
  values = np.zeros(40)
  values[4:8], values[12:] = 0.8, 0.9
  steps = lambda points: np.round(points[:, 1] / STEP).astype(int)  # noqa: E731

  def move(points, s):
    points = points + np.float32([0, s])
    points[:, 0] = values[steps(points)]
    return points

  reach = smallest_strength.find(LINEAR, track([0.0], move), SMILE, "present")
  assert_allclose(reach.strength, [3 * STEP + STEP / 2], atol=1e-6)
  # A tie is not above: the last step at the threshold is the infimum.
  values[2:4] = np.float32(0.4)
  reach = smallest_strength.find(LINEAR, track([0.0], move), SMILE, "present")
  assert_allclose(reach.strength, [3 * STEP], atol=1e-6)


def test_summaries_count_never_as_more_than_any_strength():
  inf, nan = np.inf, np.nan
  reach = Reach(
    np.array([1.0, 2.0, 4.0, inf, nan, nan]), np.zeros(6, np.float32)
  )
  assert reach.median() == 3.0 and reach.never() == 0.25
  assert reach.needed() == pytest.approx(3.6)  # Of 1, 2 and 4.
  reach = Reach(np.array([1.0, inf]), np.zeros(2, np.float32))
  assert reach.median() is None and reach.never() == 0.5
  assert reach.needed() == 1.0
  for strength, never in (([inf, inf], 1.0), ([nan, nan], None)):
    reach = Reach(np.array(strength), np.zeros(2, np.float32))
    assert reach.median() is reach.needed() is None
    assert reach.never() == never
  assert smallest_strength.span(None) == 3
  assert smallest_strength.span(0.0) == 0.05
  assert smallest_strength.span(1.2) == 1.2
  assert smallest_strength.span(1.21) == 1.25


@pytest.mark.parametrize("way", ["present", "absent"])
def test_effects_are_those_at_each_images_own_strength(way):
  start = np.array([-2.9, -0.5, 0.1, 0.3, 3.0])
  run = track(start)
  reach = smallest_strength.find(LINEAR, run, SMILE, way)
  score = smallest_strength.score(LINEAR, run, reach, SMILE, way)
  there = start[1:4] if way == "present" else start[2:4]
  own = (0.4 - there) / 0.5 if way == "present" else (there + 0.3) / 0.5
  never = 1 / 4 if way == "present" else 1 / 3
  assert score["images"] == (4 if way == "present" else 3)
  assert score["never"] == pytest.approx(never)
  with_never = np.append(own, np.inf)
  assert score["median"] == pytest.approx(np.median(with_never), abs=1e-5)
  assert score["needed"] == pytest.approx(np.percentile(own, 90), abs=1e-5)
  # Bald moves by 0.15 where Smiling moves by 0.5, Hat does not move.
  assert score["side_effect"] == pytest.approx(0.15, abs=1e-5)
  assert score["worst"]["attribute"] == "Bald"
  assert score["worst"]["side_effect"] == pytest.approx(0.3, abs=1e-5)
  pairs = np.abs(start[:, None] - start)[~np.eye(5, dtype=bool)].mean()
  identity = own.mean() * np.linalg.norm(SLOPE) / pairs
  assert score["identity"] == pytest.approx(identity, rel=1e-5)


def test_nothing_is_changed_where_no_image_gets_there():
  run = track([-9.0, 9.0])
  reach = smallest_strength.find(LINEAR, run, SMILE, "present")
  assert_array_equal(reach.strength, [np.inf, np.nan])
  score = smallest_strength.score(LINEAR, run, reach, SMILE, "present")
  assert score["images"] == 1 and score["never"] == 1
  nothing = "median", "needed", "side_effect", "identity"
  assert all(score[name] is None for name in nothing)


@pytest.mark.parametrize("kind", edits.KINDS)
def test_tracks_are_the_strips_by_steps(kind):
  codes = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
  linear, nonlinear = paths()
  decoder = object.__new__(Decoder)
  run = smallest_strength.latent_track(
    decoder, codes, (linear, nonlinear), kind, "Bald"
  )
  points = codes
  for _ in range(3):
    points = run.move(points, STEP)
  # Of any number of points.
  points = np.concatenate([run.move(points[:1], STEP), points[1:]])
  if kind == "curved":
    wanted = nonlinear.walk(codes, {"Bald": 1.0}, np.array([1.0, 3 * STEP]))
  else:
    steps = np.array([1, 3 * STEP])[:, None] * linear.vector("Bald", kind)
    wanted = codes[:, None] + steps
  assert_allclose(points, np.stack([wanted[0, 0], wanted[1, 1]]), atol=1e-5)
  assert_array_equal(run.render(codes), decoder.decode(codes))


def test_pixels_are_clipped_when_they_are_drawn():
  image = np.array([[[[10]], [[250]]]], np.uint8)
  difference = np.array([[[20.0]], [[9.4]]], np.float32)
  run = smallest_strength.pixel_track(image, difference)
  ahead = run.move(run.move(run.start, 0.5), 0.5)
  strip = edits.pixel_strip(image, difference, np.array([0.0, 1.0]))
  assert_array_equal(run.render(ahead), strip[:, 1])
  assert_array_equal(run.render(run.move(ahead, -1.0)), image)
  assert LARGEST % STEP == 0
