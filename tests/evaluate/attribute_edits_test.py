"""Scores of edits: strips by value, scores of predictions made by hand."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.support.smiling_model import directions_of
from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_edits as edits
from vae_jax.evaluate.attribute_classifier import (
  AttributeClassifier,
  Predictions,
)
from vae_jax.evaluate.attribute_edits import StripPredictions, Target
from vae_jax.latents import nonlinear_directions, trained_model

RNG = np.random.RandomState(0)
STRENGTHS = np.array([-1.0, 0.0, 1.0])


class Decoder(trained_model.TrainedModel):
  """Decodes a code of two numbers to two pixels."""

  def decode(self, code, label=None):
    assert code.dtype == np.float32
    return (10 * code + 100).astype(np.uint8).reshape(-1, 1, 2, 1)


class PixelClassifier(AttributeClassifier):
  """A classifier whose predictions are those pixels."""

  def predict(self, image):
    flat = image.reshape(len(image), -1).astype(np.float32) / 200
    probability = np.concatenate([flat, 1 - flat[:, :1]], axis=1)
    return Predictions(probability, 2 * flat[:, :1] - 1, flat)


def classifier(low=-0.5, high=0.5):
  names, scale = ("Smiling", "Bald", "Hat"), np.ones((2, 1), np.float32)
  quartiles = np.float32([[low], [0.0], [high]])
  return PixelClassifier(names, False, ("smile",), scale, quartiles, {}, {})


def paths():
  vectors = np.zeros((3, 2, 2), np.float32)
  vectors[0] = [[1.0, -2.0], [0.0, 1.0]]
  linear = directions_of(("Smiling", "Bald"), vectors, [3, 5], 8)
  codes, labels = np.float32(RNG.randn(60, 2)), RNG.randint(0, 2, (60, 2))
  return linear, nonlinear_directions.fit(
    codes, np.zeros(2, np.float32), labels, linear.names, step=0
  )


def test_latent_strip_moves_the_code():
  codes = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
  linear, nonlinear = paths()
  decoder = object.__new__(Decoder)

  def make(kind, weights, linear=linear):
    pair = linear, nonlinear
    return edits.latent_strip(decoder, codes, pair, kind, weights, STRENGTHS)

  strip = make("mean", {"Smiling": 1.0})
  assert strip.shape == (2, 3, 1, 2, 1)
  assert_array_equal(strip[1, :, 0, :, 0], [[110, 150], [120, 130], [130, 110]])
  both = make("mean", {"Smiling": 1.0, "Bald": 2.0})
  assert_array_equal(both[1, :, 0, :, 0], [[110, 130], [120, 130], [130, 130]])
  walked = nonlinear.walk(codes, {"Bald": 1.0}, STRENGTHS)
  wanted = (10 * walked + 100).astype(np.uint8)[:, :, None, :, None]
  assert_array_equal(make("curved", {"Bald": 1.0}), wanted)
  all_bald = dataclasses.replace(linear, positives=np.array([3, 8]))
  with pytest.raises(ConfigError, match="8 of 8 images"):
    make("curved", {"Bald": 1.0}, all_bald)


def test_pixel_strip_adds_the_difference_and_clips():
  image = np.array([[[[10]], [[250]]]], np.uint8)
  difference = np.array([[[20.0]], [[9.4]]], np.float32)
  strip = edits.pixel_strip(image, difference, STRENGTHS)
  assert_array_equal(strip[0, :, :, 0, 0], [[0, 241], [10, 250], [30, 255]])


def test_target_is_the_drawn_factor_if_there_is_one():
  known = dataclasses.replace(classifier(), factors=("eye_open",))
  narrow = Target("Narrow_Eyes", "eye_open", -1)
  assert edits.target_of(known, "Narrow_Eyes") == narrow
  for name in ("Bangs", "Smiling"):  # No factor, and an unknown one.
    assert edits.target_of(known, name) == Target(name)


@pytest.mark.parametrize("sign", [1, -1])
def test_thresholds_are_the_quartiles_of_the_factor(sign):
  pixels = classifier(-0.3, 0.7)
  ends = edits.thresholds(pixels, Target("Smiling", "smile", sign))
  assert_allclose(ends, sorted([-0.3 * sign, 0.7 * sign]), rtol=1e-6)
  assert edits.thresholds(pixels, Target("Bald")) == (0.25, 0.75)


def test_predictions_are_of_the_images_and_the_target():
  strips = RNG.randint(0, 200, (2, 3, 1, 2, 1)).astype(np.uint8)
  before = strips[:, 1]
  result, by_factor = (
    edits.predict(classifier(), strips, before, target)
    for target in (Target("Bald"), Target("Smiling", "smile", -1))
  )
  assert_allclose(result.target, strips[:, :, 0, 1, 0] / 200)
  expected = 1 - strips[:, :, 0, 0, 0] / 100
  assert_allclose(by_factor.target, expected, rtol=1e-5)
  moved = (strips - before[:, None].astype(float))[:, :, 0, :, 0] / 200
  assert_allclose(result.distance, np.linalg.norm(moved, axis=-1), atol=1e-6)


def predictions(target, probability=None):
  target = np.array(target, np.float32)
  if probability is None:
    probability = np.stack([target, 0 * target, 0 * target], axis=2)
  return StripPredictions(target, probability, 0 * probability, 0 * target)


def score(result):
  pictures = np.uint8([0, 0, 100, 100]).reshape(2, 1, 2, 1)
  return edits.score(classifier(), result, pictures, Target("Smiling"))


@pytest.mark.parametrize(
  "name, share, strips",
  [
    # From absent to present.
    ("success", 0.25, [[2, 5, 8], [3, 5, 8], [2, 5, 7], [8, 5, 1]]),
    # Noise is tolerated.
    ("monotone", 0.5, [[0, 5, 10], [0, 5, 4.95], [0, 5, 4], [9, 5, 10]]),
  ],
)
def test_shares_of_strips(name, share, strips):
  assert score(predictions(np.divide(strips, 10)))[name] == share


def test_side_effect_is_relative_to_the_gain():
  probability = np.zeros((2, 3, 3), np.float32)
  probability[:, 2, 0] = [0.8, 0.4]  # Smiling: gains 0.6.
  probability[:, 2, 1] = [0.2, -0.1]  # Bald: changes by 0.15, up and down.
  probability[:, 0, 2] = [0.4, 0.5]  # Hat: falls by 0.45.
  scores = score(predictions(probability[..., 0], probability))
  assert_allclose(scores["side_effect"], 0.3 / 0.6, rtol=1e-5)
  assert scores["worst"]["attribute"] == "Hat"
  assert_allclose(scores["worst"]["side_effect"], 0.75, rtol=1e-5)
  change = [scores["change"][k] for k in ("Smiling", "Bald", "Hat")]
  assert_allclose(change, [0.6, 0.05, -0.45], rtol=1e-5)
  # Without gain there is no ratio.
  scores = score(predictions([[0.5, 0.4, 0.2], [0.5, 0.5, 0.5]]))
  assert scores["side_effect"] is scores["worst"]["side_effect"] is None


def test_identity_is_relative_to_the_distance_of_two_images():
  distance = np.float32([[0.2, 0.0, 0.4], [0.1, 0.0, 0.5]])
  strip = dataclasses.replace(predictions(np.zeros((2, 3))), distance=distance)
  # The two images are 0 and 100, features 0 and 0.5 twice.
  assert_allclose(score(strip)["identity"], 0.3 / (0.5 * 2**0.5), rtol=1e-5)
