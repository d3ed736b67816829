"""`--mode=lesson`: its runs and its numbers."""

import json

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.evaluate import distances
from vae_jax.modes import lesson
from vae_jax.training import restore
from vae_jax.training import writer as writer_lib

# One size is enough for a test.
RUNS = {
  "autoencoder_4": ("autoencoder", "deterministic"),
  "vae_4": ("elbo", "diagonal_normal"),
}


def _config(faces_dir):
  return tiny_config(faces_dir, train__num_steps=2, train__steps_per_call=2)


@pytest.fixture(scope="module")
def taught(tmp_path_factory, faces_dir):
  folder = tmp_path_factory.mktemp("lesson")
  return folder, lesson.compare_kinds(_config(faces_dir), str(folder), (4,))


def _images(rng, count, mean, scale):
  """Grey images 4 x 4 of independent normal pixels."""
  pixels = mean + scale * rng.randn(count, 4, 4, 1)
  return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def test_ruler_measures_normal_pixels_by_closed_forms():
  rng = np.random.RandomState(0)
  train = _images(rng, 3000, 128, 10)
  ruler = lesson.Ruler(train, _images(rng, 2000, 128, 10))
  assert ruler.components == 16
  assert ruler.explained == pytest.approx(1)
  same = ruler.measure(_images(rng, 2000, 128, 10))
  assert same["distance"] == pytest.approx(0, abs=3e-3)
  assert same["nearest"] == pytest.approx(1, abs=0.02)
  # Frechet: 16 pixels, each (difference of means)^2 + (of deviations)^2.
  other = ruler.measure(_images(rng, 2000, 158, 20))
  expected = 16 * (30**2 + 10**2) / 255**2
  assert other["distance"] == pytest.approx(expected, rel=0.05)
  assert other["nearest"] > 1.5
  # What sits in the middle of the data is near all of it and unlike it.
  middle = ruler.measure(np.full((100, 4, 4, 1), 128, np.uint8))
  assert middle["nearest"] < 0.9
  assert middle["distance"] == pytest.approx(16 * 10**2 / 255**2, rel=0.1)


def test_ruler_uses_fifty_components():
  rng = np.random.RandomState(0)
  # 20 x 20 pixels that vary much, of which 50 components are not all.
  images = rng.randint(0, 256, (300, 20, 20, 1)).astype(np.uint8)
  ruler = lesson.Ruler(images, images)
  assert ruler.components == 50
  assert 0.1 < ruler.explained < 0.9
  measured = ruler.measure(images)
  assert measured["distance"] == pytest.approx(0, abs=1e-6)
  assert measured["nearest"] == 0


@pytest.mark.parametrize("rows", [7, 1000])
def test_nearest_distances_equal_all_pairs(rows, monkeypatch):
  monkeypatch.setattr(distances, "_ROWS", rows)
  rng = np.random.RandomState(0)
  x, y = rng.randn(30, 5), rng.randn(40, 5)
  pairs = scipy_distance.cdist(x, y)
  np.testing.assert_allclose(distances.nearest(x, y), pairs.min(axis=1))
  own = scipy_distance.cdist(x, x) + np.diag(np.full(30, np.inf))
  np.testing.assert_allclose(distances.nearest_other(x), own.min(axis=1))
  with pytest.raises(ValueError, match="nearest other row needs 2 rows"):
    distances.nearest_other(x[:1])


def test_runs_differ_in_kind_and_size_alone(taught, faces_dir):
  folder, _ = taught
  free = (
    *("model.latent_dim:", "objective.name:", "model.posterior.name:"),
    "data.",
  )
  for name, parts in RUNS.items():
    config = restore.load_config(folder / name)
    assert config.model.latent_dim == 4
    assert (config.objective.name, config.model.posterior.name) == parts
    assert int(restore.load_state(folder / name).step) == 2
    for line in config_lib.differences(_config(faces_dir), config):
      assert line.removeprefix("config.").startswith(free)


def test_runs_drop_arguments_of_the_config_s_loss(faces_dir):
  c = _config(faces_dir)
  c.objective.name = "beta_vae"
  c.objective.args.beta = 3.0
  c.model.prior.name = "vamp"
  c.model.prior.args.num_components = 3
  c.model.condition = "attributes"
  for kind in ("autoencoder", "vae"):
    made = lesson.config_for(c, kind, 2)
    assert not made.objective.args and not made.model.prior.args
    assert made.model.prior.name == "standard_normal"
    assert made.model.condition == "none"
  assert c.objective.args.beta == 3.0


def test_table_and_files_hold_the_same_numbers(taught):
  folder, text = taught
  written = json.loads((folder / "lesson" / "lesson.json").read_text())
  named = [(r["model"], r["latents"]) for r in written["rows"]]
  assert named == [("autoencoder", 4), ("vae", 4), ("data", None)]
  for row in written["rows"]:
    assert f"{row['distance']:.3f}" in text
    assert row["nearest"] > 0
  assert set(written["meaning"]) == {"distance", "nearest"}
  arrays = np.load(folder / "lesson" / "lesson.npz")
  assert set(arrays) == {*RUNS, "data"}
  assert arrays["vae_4"].shape == (32, 16, 16, 1)
  assert (folder / "lesson" / "lesson.png").exists()


def test_second_lesson_trains_nothing(taught, faces_dir):
  folder, text = taught
  files = [folder / "lesson" / f"lesson.{k}" for k in ("npz", "json", "png")]
  before = [path.read_bytes() for path in files]
  rows = {name: writer_lib.read_rows(folder / name) for name in RUNS}
  again = lesson.compare_kinds(_config(faces_dir), str(folder), (4,))
  assert again == text
  assert [path.read_bytes() for path in files] == before
  assert {name: writer_lib.read_rows(folder / name) for name in RUNS} == rows


def test_too_few_images_are_refused_before_training(tmp_path, faces_dir):
  c = _config(faces_dir)
  c.eval.num_samples = 5
  with pytest.raises(config_lib.ConfigError, match="at least 20"):
    lesson.run(c, str(tmp_path))
  assert not list(tmp_path.iterdir())
