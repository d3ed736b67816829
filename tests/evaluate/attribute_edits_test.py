"""Scores of edits: strips by value, scores of predictions made by hand."""

import dataclasses
import functools

import numpy as np
import pytest

from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_classifier, attribute_edits
from vae_jax.latents import directions, nonlinear_directions, trained_model

RNG = np.random.RandomState(0)
STRENGTHS = np.array([-1.0, 0.0, 1.0])


class Decoder(trained_model.TrainedModel):
  """Decodes a code of two numbers to two pixels."""

  def decode(self, code, label=None):
    assert code.dtype == np.float32
    return (10 * code + 100).astype(np.uint8).reshape(-1, 1, 2, 1)


class PixelClassifier(attribute_classifier.AttributeClassifier):
  """A classifier whose predictions are those pixels."""

  def predict(self, image):
    flat = image.reshape(len(image), -1).astype(np.float32) / 200
    probability = np.concatenate([flat, 1 - flat[:, :1]], axis=1)
    return attribute_classifier.Predictions(
      probability, 2 * flat[:, :1] - 1, flat
    )


def classifier(low=-0.5, high=0.5):
  return PixelClassifier(
    names=("Smiling", "Bald", "Hat"),
    classes=False,
    factors=("smile",),
    scale=np.ones((2, 1), np.float32),
    quartiles=np.array([[low], [0.0], [high]], np.float32),
    accuracy={},
    params={},
  )


def paths():
  vectors = np.zeros((3, 2, 2), np.float32)
  vectors[0] = [[1.0, -2.0], [0.0, 1.0]]
  linear = directions.Directions(
    names=("Smiling", "Bald"),
    vectors=vectors,
    pixels=np.zeros((2, 1, 2, 1)),
    positives=np.array([3, 5]),
    total=8,
    correlation=np.eye(2),
    accuracy=np.ones(2),
    split="train",
    step=0,
  )
  nonlinear = nonlinear_directions.fit(
    RNG.randn(60, 2).astype(np.float32),
    np.zeros(2, np.float32),
    RNG.randint(0, 2, (60, 2)),
    linear.names,
    step=0,
  )
  return linear, nonlinear


def test_latent_strip_moves_the_code():
  codes = np.array([[0.0, 1.0], [2.0, 3.0]], np.float32)
  decoder, (linear, nonlinear) = object.__new__(Decoder), paths()
  make = functools.partial(
    attribute_edits.latent_strip,
    decoder,
    codes,
    (linear, nonlinear),
    strengths=STRENGTHS,
  )
  strip = make("mean", {"Smiling": 1.0})
  assert strip.shape == (2, 3, 1, 2, 1)
  np.testing.assert_array_equal(
    strip[1, :, 0, :, 0], [[110, 150], [120, 130], [130, 110]]
  )
  both = make("mean", {"Smiling": 1.0, "Bald": 2.0})
  np.testing.assert_array_equal(
    both[1, :, 0, :, 0], [[110, 130], [120, 130], [130, 130]]
  )
  walked = nonlinear.walk(codes, {"Bald": 1.0}, STRENGTHS)
  wanted = (10 * walked + 100).astype(np.uint8)[:, :, None, :, None]
  np.testing.assert_array_equal(make("curved", {"Bald": 1.0}), wanted)
  with pytest.raises(ConfigError, match="8 of 8 images"):
    attribute_edits.latent_strip(
      decoder,
      codes,
      (dataclasses.replace(linear, positives=np.array([3, 8])), nonlinear),
      "curved",
      {"Bald": 1.0},
      STRENGTHS,
    )


def test_pixel_strip_adds_the_difference_and_clips():
  image = np.array([[[[10]], [[250]]]], np.uint8)
  difference = np.array([[[20.0]], [[9.4]]], np.float32)
  strip = attribute_edits.pixel_strip(image, difference, STRENGTHS)
  np.testing.assert_array_equal(
    strip[0, :, :, 0, 0], [[0, 241], [10, 250], [30, 255]]
  )


@pytest.mark.parametrize("sign", [1, -1])
def test_thresholds_are_the_quartiles_of_the_factor(sign):
  pixels = classifier(-0.3, 0.7)
  low, high = attribute_edits.thresholds(
    pixels, attribute_edits.Target("Smiling", "smile", sign)
  )
  wanted = (-0.3, 0.7) if sign == 1 else (-0.7, 0.3)
  np.testing.assert_allclose((low, high), wanted, rtol=1e-6)
  bald = attribute_edits.Target("Bald")
  assert attribute_edits.thresholds(pixels, bald) == (0.25, 0.75)


def test_predictions_are_of_the_images_and_the_target():
  strips = RNG.randint(0, 200, (2, 3, 1, 2, 1)).astype(np.uint8)
  before = strips[:, 1]
  result = attribute_edits.predict(
    classifier(), strips, before, attribute_edits.Target("Bald")
  )
  np.testing.assert_allclose(result.target, strips[:, :, 0, 1, 0] / 200)
  by_factor = attribute_edits.predict(
    classifier(), strips, before, attribute_edits.Target("Smiling", "smile", -1)
  )
  np.testing.assert_allclose(
    by_factor.target, 1 - strips[:, :, 0, 0, 0] / 100, rtol=1e-5
  )
  moved = (strips - before[:, None].astype(float))[:, :, 0, :, 0] / 200
  np.testing.assert_allclose(
    result.distance, np.linalg.norm(moved, axis=-1), atol=1e-6
  )


def predictions(target, probability=None):
  target = np.array(target, np.float32)
  n, s = target.shape
  if probability is None:
    probability = np.zeros((n, s, 3), np.float32)
    probability[..., 0] = target
  return attribute_edits.StripPredictions(
    target,
    probability,
    np.zeros((n, s, 1), np.float32),
    np.zeros((n, s), np.float32),
  )


def score(result):
  pictures = np.array([0, 100], np.uint8)[:, None, None, None]
  pictures = np.repeat(pictures, 2, axis=2)[: max(2, len(result.target))]
  return attribute_edits.score(
    classifier(), result, pictures, attribute_edits.Target("Smiling")
  )


def test_success_goes_from_absent_to_present():
  scores = score(
    predictions(
      [[0.2, 0.5, 0.8], [0.3, 0.5, 0.8], [0.2, 0.5, 0.7], [0.8, 0.5, 0.1]]
    )
  )
  assert scores["success"] == 0.25


def test_monotone_tolerates_noise_only():
  scores = score(
    predictions(
      [[0.0, 0.5, 1.0], [0.0, 0.5, 0.495], [0.0, 0.5, 0.4], [0.9, 0.5, 1]]
    )
  )
  assert scores["monotone"] == 0.5


def test_side_effect_is_relative_to_the_gain():
  probability = np.zeros((2, 3, 3), np.float32)
  probability[:, 2, 0] = [0.8, 0.4]  # Smiling: gains 0.6.
  probability[:, 2, 1] = [0.2, -0.1]  # Bald: changes by 0.15, up and down.
  probability[:, 0, 2] = [0.4, 0.5]  # Hat: falls by 0.45.
  scores = score(predictions(probability[..., 0], probability))
  np.testing.assert_allclose(scores["side_effect"], 0.3 / 0.6, rtol=1e-5)
  assert scores["worst"]["attribute"] == "Hat"
  np.testing.assert_allclose(scores["worst"]["side_effect"], 0.75, rtol=1e-5)
  np.testing.assert_allclose(
    [scores["change"][k] for k in ("Smiling", "Bald", "Hat")],
    [0.6, 0.05, -0.45],
    rtol=1e-5,
  )


def test_edit_without_gain_has_no_side_effect_ratio():
  scores = score(predictions([[0.5, 0.4, 0.2], [0.5, 0.5, 0.5]]))
  assert (
    scores["side_effect"] is None and scores["worst"]["side_effect"] is None
  )


def test_identity_is_relative_to_the_distance_of_two_images():
  strip = predictions([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
  strip = dataclasses.replace(
    strip, distance=np.array([[0.2, 0.0, 0.4], [0.1, 0.0, 0.5]], np.float32)
  )
  # The two images are 0 and 100, features 0 and 0.5 twice.
  np.testing.assert_allclose(
    score(strip)["identity"], 0.3 / (0.5 * 2**0.5), rtol=1e-5
  )
