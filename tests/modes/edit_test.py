"""`--mode=edit`: strips and scores of a tiny run."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from tests.support.smiling_model import quick_classifier
from vae_jax.config import ConfigError
from vae_jax.evaluate import attribute_edits, smallest_strength
from vae_jax.latents import attribute_directions, trained_model
from vae_jax.modes import edit


@pytest.fixture
def quick(monkeypatch):
  """Makes the attribute classifier small and hardly trained."""
  quick_classifier(monkeypatch)
  # It hardly ever sees a target reached.
  monkeypatch.setattr(smallest_strength, "LARGEST", 1.0)


def edited(run, **flags):
  text = edit.run(*run, **flags)
  return text, dict(np.load(text.splitlines()[-1].replace(".png", ".npz")))


def test_strips_follow_directions_and_scores_are_shares(run, quick):
  flags = {"strength": "-1:1:0.5", "images": "data:test:0-2"}
  text, arrays = edited(run, attribute="Smiling", **flags)
  model = trained_model.open_run(*run)
  linear, nonlinear = attribute_directions.directions_of(model)
  rebuilt = model.decode(model.encode(arrays["original"]))
  assert_array_equal(arrays["reconstruction"], rebuilt)
  assert_array_equal(arrays["strength"], [-1, -0.5, 0, 0.5, 1])
  walked = nonlinear.walk(arrays["code"], {"Smiling": 1.0}, arrays["strength"])
  assert_array_equal(arrays["curved"][:, 3], model.decode(walked[:, 3]))
  for kind in attribute_edits.KINDS:
    assert_array_equal(arrays[kind][:, 2], rebuilt)
    if kind == "curved":
      continue
    moved = arrays["code"] + np.float32(0.5) * linear.vector("Smiling", kind)
    assert_array_equal(arrays[kind][:, 3], model.decode(moved))
    assert not np.array_equal(arrays[kind][:, 0], arrays[kind][:, 4])
  assert_array_equal(arrays["pixels"][:, 2], arrays["original"])

  folder = model.workdir / "edit"
  result = json.loads((folder / "Smiling.json").read_text())
  assert result["target"] == "factor smile" and result["images"] == 32
  assert set(result["directions"]) == {*attribute_edits.KINDS, "pixels"}
  for kind, score in result["directions"].items():
    assert 0 <= score["success"] <= 1 and 0 <= score["monotone"] <= 1
    assert score["identity"] > 0 and kind in text
    assert set(score) >= {"side_effect", "worst", "change"}
    for way in ("present", "absent"):
      assert score[way]["images"] <= 32
      assert set(score[way]) >= {"median", "never", "side_effect", "identity"}
  with Image.open(folder / "Smiling_curves.png") as picture:
    assert picture.width > 1000
  # Three images, five rows each, seven columns.
  with Image.open(folder / "Smiling.png") as picture:
    assert picture.width > 7 * 16 and picture.height > 15 * 16


def test_second_call_writes_same_bytes(run, quick):
  folder = pathlib.Path(run[1])
  made = []
  for _ in range(2):
    shutil.rmtree(folder / "edit", ignore_errors=True)
    shutil.rmtree(folder / "attributes", ignore_errors=True)
    flags = {"images": "data:test:0", "direction": "mean", "examples": 16}
    edited(run, attribute="Bangs", **flags)
    files = [*folder.glob("edit/*"), *folder.glob("attributes/*.npz")]
    made.append({f.name: f.read_bytes() for f in files})
  assert made[0] == made[1] and len(made[0]) == 6


def test_strips_span_what_each_kind_of_direction_needs(run, monkeypatch):
  needs = {"mean": (1.21, 2.0), "curved": (0.4, None), "pixels": (6.0, 0.0)}

  def measured(edit, examples, path):
    del examples, path
    ways = "absent", "present"
    return {
      "directions": {
        kind: {w: {"needed": s} for w, s in zip(ways, both, strict=True)}
        for kind, both in needs.items()
      }
    }

  monkeypatch.setattr(edit, "_measure", measured)
  monkeypatch.setattr(edit.edit_table, "table", str)
  flags = {"images": "data:test:1", "direction": "mean,curved"}
  text, arrays = edited(run, attribute="Smiling", **flags)
  assert "90% of the images" in text.splitlines()[-2]
  # Rounded up to 0.05; 3 where no image gets there.
  ends = {"mean": (1.25, 2), "curved": (0.4, 3), "pixels": (6, 0.05)}
  for kind, (low, high) in ends.items():
    steps = np.array([0.25, 0.5, 0.75, 1])
    wanted = [*(-low * steps[::-1]), 0, *(high * steps)]
    assert_allclose(arrays[f"strength_{kind}"], wanted)
    assert arrays[kind].shape[1] == 9
  assert "strength" not in arrays
  model = trained_model.open_run(*run)
  linear, _ = attribute_directions.directions_of(model)
  step = np.float32(-1.25) * linear.vector("Smiling", "mean")
  assert_array_equal(arrays["mean"][:, 0], model.decode(arrays["code"] + step))
  # Strengths that are asked for are those of all kinds.
  text, arrays = edited(run, attribute="Smiling", strength="-1:1:1", **flags)
  assert_array_equal(arrays["strength"], [-1, 0, 1])
  assert "The strip" not in text


def test_strips_that_are_not_measured_say_so(run):
  flags = {"images": "data:test:0", "direction": "mean", "examples": 0}
  for attribute in ("Smiling", "Smiling=2"):
    text, arrays = edited(run, attribute=attribute, **flags)
    assert "strengths -3 to 3: the edit is not measured" in text
    assert_allclose(arrays["strength"], np.arange(-3, 3.1, 0.5))


def test_attributes_combine_with_their_weights(run):
  flags = {"strength": "0:1:1", "direction": "mean", "images": "data:test:4"}
  _, arrays = edited(run, attribute="Smiling=2,Bangs=-1", **flags)
  model = trained_model.open_run(*run)
  linear, _ = attribute_directions.directions_of(model)
  vector = 2 * linear.vector("Smiling", "mean")
  vector -= linear.vector("Bangs", "mean")
  assert_array_equal(
    arrays["mean"][:, 1], model.decode(arrays["code"] + vector)
  )
  assert "probe" not in arrays
  assert (model.workdir / "edit" / "Smiling_2_Bangs_-1.png").exists()


def test_photo_is_edited(run, tmp_path):
  path = tmp_path / "me.jpg"
  Image.new("RGB", (90, 60), (200, 120, 80)).save(path)
  flags = {"images": str(path), "examples": 0, "strength": "-1:1:1"}
  _, arrays = edited(run, attribute="Smiling", **flags)
  assert arrays["original"].shape == (1, 16, 16, 1)


@pytest.mark.parametrize(
  "flag, value, message",
  [
    ("attribute", None, "needs an attribute"),
    ("attribute", "Smilng", "did you mean Smiling"),
    ("attribute", "Smiling=x", "the weight of Smiling is 'x'"),
    ("attribute", "Smiling=inf", "must be a number"),
    ("attribute", "Smiling,Smiling=2", "names Smiling twice"),
    ("strength", "3:-3:1", "FIRST < LAST"),
    ("strength", "-3:3", "FIRST:LAST:STEP"),
    ("strength", "-3:3:0", "STEP > 0"),
    ("strength", "-3:3:0.01", "at most 61"),
    ("strength", "-nan:3:1", "'-nan:3:1'"),
    ("direction", "median", "mean, balanced, probe, curved"),
    ("examples", -1, "--examples is -1"),
    ("images", "nope.jpg", "nope.jpg"),
  ],
)
def test_wrong_flags_are_refused(run, flag, value, message):
  with pytest.raises(ConfigError, match=message) as caught:
    edit.run(*run, **{"attribute": "Smiling", flag: value})
  assert "\n" not in str(caught.value)


def test_strengths_hold_zero_and_both_ends():
  made = edit.parse_strengths("-3:3:0.1")
  assert len(made) == 61 and made[30] == 0 and made[-1] == 3
  assert_allclose(np.diff(made), 0.1)
