"""How far the sliders of attributes go."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.support.smiling_model import quick_classifier
from vae_jax.evaluate import attribute_edits, smallest_strength
from vae_jax.evaluate import train_classifier as training
from vae_jax.evaluate.attribute_classifier import (
  AttributeClassifier,
  Predictions,
)
from vae_jax.latents import attribute_directions
from vae_jax.modes.explore import ranges


class Brightness(AttributeClassifier):
  """A classifier whose factor is the mean gray level."""

  def predict(self, image):
    level = image.reshape(len(image), -1).mean(axis=1, dtype=np.float32)
    return Predictions(0 * level[:, None], level[:, None], level[:, None])


@pytest.fixture(scope="module")
def model(editor):
  return dataclasses.replace(editor.model, chunk=16)


def test_nine_tenths_of_the_pictures_get_there_within_the_range(model):
  index = np.arange(16)
  image = model.experiment.source("test").fetch(index)["image"]
  codes = model.encode(image)
  levels = model.decode(codes).reshape(16, -1).mean(axis=1)
  low, high = np.quantile(levels, (0.4, 0.6))
  classifier = Brightness(
    ("Smiling",),
    False,
    ("smile",),
    np.ones((2, 1), np.float32),
    np.float32([[low], [levels.mean()], [high]]),
    {},
    {},
  )
  made = ranges.measure(model, classifier, ("Smiling",))
  assert set(made) == set(attribute_edits.KINDS)
  paths = attribute_directions.directions_of(model)
  fine = np.linspace(0, smallest_strength.LARGEST, 241)
  for kind in ("mean", "curved"):
    for sign, end in zip((-1, 1), made[kind]["Smiling"], strict=True):
      strips = attribute_edits.latent_strip(
        model, codes, paths, kind, {"Smiling": 1.0}, sign * fine
      )
      values = strips.reshape(16, len(fine), -1).mean(axis=2)
      there = values > high if sign > 0 else values < low
      moved = ~there[:, 0] & there.any(axis=1)
      if not moved.any():
        assert end == 3
        continue
      needed = np.percentile(fine[there[moved].argmax(axis=1)], 90)
      # Rounded up to 0.05, steps of 0.5 against 0.025.
      assert_allclose(end, needed, atol=0.15)


def test_ranges_are_kept_and_no_classifier_is_trained(
  model, monkeypatch, tmp_path
):
  quick_classifier(monkeypatch)
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  names = "Smiling", "Bangs"
  assert ranges.of_model(model, names) is None
  assert not training.path_of(model.experiment).exists()
  training.load_or_train(model.experiment)
  assert ranges.of_model(model, ()) is None
  made = ranges.of_model(model, names)
  for kind in attribute_edits.KINDS:
    assert set(made[kind]) == set(names)
    assert min(min(pair) for pair in made[kind].values()) > 0
  again = []
  monkeypatch.setattr(ranges, "measure", lambda *_: again.append(1) or made)
  assert ranges.of_model(model, names) == made and not again
  # A damaged file is made again, and so is one of other attributes.
  (model.workdir / "attributes" / "ranges.json").write_text("{")
  assert ranges.of_model(model, names) == made and len(again) == 1
  assert ranges.of_model(model, names[:1]) == made and len(again) == 2


def test_a_sliders_value_is_a_percentage_or_a_strength():
  known = {"mean": {"Smiling": (0.5, 4.0)}, "curved": {"Smiling": (2.0, 1.0)}}
  assert ranges.strength(None, "mean", "Smiling", -2) == -2
  for kind, value, wanted in (
    ("mean", 100, 4.0),
    ("mean", -100, -0.5),
    ("mean", 25, 1.0),
    ("curved", -50, -1.0),
    ("curved", 0, 0.0),
  ):
    assert ranges.strength(known, kind, "Smiling", value) == wanted
  assert "-3 to 3" in ranges.words(None) and "--mode=edit" in ranges.words(None)
  assert "90% of 16 test pictures" in ranges.words(known)
