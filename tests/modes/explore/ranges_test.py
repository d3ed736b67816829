"""How far the sliders of attributes go."""

import types

import numpy as np

from tests.evaluate.attribute_edits_test import Decoder, classifier, paths
from tests.support.smiling_model import quick_classifier
from vae_jax.evaluate import attribute_edits
from vae_jax.evaluate import train_classifier as training
from vae_jax.latents import given
from vae_jax.modes.explore import ranges

STARTS = np.arange(16) / 2 - 4  # First numbers of the codes.


class Linear(Decoder):
  """A model of two pixels, 10 z + 100, and 16 test pictures."""

  experiment = types.SimpleNamespace(
    source=lambda _: given.InMemory(np.zeros((16, 1, 2, 1), np.uint8), None)
  )

  def as_input(self, image, index):
    return image

  def encode(self, images):
    return np.float32(np.stack([STARTS, 0 * STARTS], axis=1))

  def decode(self, code):
    pixels = np.clip(10 * code + 100, 0, 255)
    return pixels.astype(np.uint8).reshape(-1, 1, 2, 1)


def test_nine_tenths_of_the_pictures_get_there_within_the_range(monkeypatch):
  monkeypatch.setattr(
    ranges.attribute_directions, "directions_of", lambda _: paths()
  )
  made = ranges.measure(
    object.__new__(Linear), classifier(-0.295, 0.305), ("Smiling",)
  )
  assert set(made) == set(attribute_edits.KINDS)
  # The factor is z / 10 and a strength adds 1 to z.
  for end, s in zip(
    made["mean"]["Smiling"], (STARTS + 2.95, 3.05 - STARTS), strict=True
  ):
    needed = np.percentile(s[(s > 0) & (s <= 6)], 90)
    assert needed - 1e-5 < end < needed + 0.0501  # Rounded up.
  # These directions are 0: no picture gets there.
  assert made["balanced"]["Smiling"] == made["probe"]["Smiling"] == (3, 3)


def test_ranges_are_kept_and_no_classifier_is_trained(
  editor, monkeypatch, tmp_path
):
  model = editor.model
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
