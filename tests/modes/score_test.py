"""`--mode=score`: a row per image, whose means are those of an evaluation."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vae_jax
from vae_jax.config import ConfigError
from vae_jax.latents import scores
from vae_jax.modes import evaluate, score
from vae_jax.training import restore


def changed(run, **settings):
  config = restore.load_config(run[1])
  for name, value in settings.items():
    node, _, key = name.partition("__")
    config[node][key] = value
  return config, run[1]


def rows_of(path):
  return list(csv.DictReader(io.StringIO(pathlib.Path(path).read_text())))


def test_means_of_columns_are_the_printed_ones(run):
  config, workdir = changed(run, eval__importance_samples=4)
  text = score.run(config, workdir)
  path = text.splitlines()[-1]
  rows, arrays = rows_of(path), np.load(path.replace(".csv", ".npz"))
  result = evaluate.evaluate(config, workdir)
  assert len(rows) == result["num_examples"] == 32
  columns = "loss distortion rate neg_elbo nll".split()
  for name in columns:
    values = np.array([float(row[name]) for row in rows])
    assert_array_equal(values.astype(arrays[name].dtype), arrays[name])
    assert_allclose(values.mean(), result[name], rtol=1e-6, atol=1e-4)
    assert f"{values.mean():.4f}" in text
  assert rows[3]["name"] == "test 3" and rows[3]["index"] == "3"
  model = vae_jax.load(workdir)
  source = model.experiment.source("test")
  image = source.fetch(np.arange(32))["image"]
  difference = (model.reconstruct(image) / 255 - image / 255) ** 2
  error = difference.sum(axis=(1, 2, 3))
  assert_allclose(arrays["squared_error"], error, rtol=0.02)
  smiling = arrays["label_names"].tolist().index("Smiling")
  label = source.fetch(np.arange(32))["label"][:, smiling]
  assert_array_equal([int(row["Smiling"]) for row in rows], label)


def test_python_has_the_same_bits(run):
  config, workdir = changed(run, eval__importance_samples=4)
  path = score.run(config, workdir).splitlines()[-1]
  arrays = np.load(path.replace(".csv", ".npz"))
  model = vae_jax.load(workdir)
  images = model.experiment.source("test").fetch(np.arange(20))["image"]
  terms = model.score(images, samples=4)
  for name, values in terms.items():
    assert_array_equal(values, arrays[name][:20])
  assert_array_equal(model.log_prob(images, samples=4), -arrays["nll"][:20])
  one = model.score(images[0])
  assert one["neg_elbo"] == arrays["neg_elbo"][0] and "nll" not in one


def test_labels_tell_normal_images_from_others(run):
  text = score.run(*run, normal="Smiling")
  arrays = np.load(text.splitlines()[-1].replace(".csv", ".npz"))
  normal = arrays["normal"].astype(bool)
  smiling = arrays["label_names"].tolist().index("Smiling")
  assert_array_equal(normal, arrays["labels"][:, smiling] == 1)
  # By all pairs.
  loss = arrays["loss"]
  higher = loss[~normal][:, None] - loss[normal][None]
  expected = ((higher > 0) + 0.5 * (higher == 0)).mean()
  line = next(v for v in text.splitlines() if "auroc.loss" in v)
  assert_allclose(float(line.split()[-1]), expected, atol=1e-4)


def test_auroc_counts_pairs():
  values = np.float32([1, 2, 2, 3])
  positive = np.array([False, True, False, True])
  assert scores.auroc(values, positive) == (1 + 0.5 + 1 + 1) / 4
  assert scores.auroc(values, np.ones(4, bool)) is None


def test_files_are_named(run, tmp_path):
  from PIL import Image

  model = vae_jax.load(run[1])
  image = model.experiment.source("test").fetch(np.arange(2))["image"]
  Image.fromarray(image[1, ..., 0]).save(tmp_path / "my face.png")
  text = score.run(*run, images=f"data:test:0 | {tmp_path}/my face.png")
  rows = rows_of(text.splitlines()[-1])
  assert [row["name"] for row in rows] == ["test 0", "my face.png"]
  terms = model.score(image)
  assert_array_equal(np.float32([r["loss"] for r in rows]), terms["loss"])


def test_other_data_are_scored_in_a_folder_of_their_own(run):
  config, workdir = changed(run, data__test_split="validation")
  path = pathlib.Path(score.run(config, workdir).splitlines()[-1])
  assert path.parent.parent == pathlib.Path(workdir) / "score"
  result = evaluate.evaluate(config, workdir)
  assert result["trained_on"] == run[0].data.name
  (file,) = pathlib.Path(workdir).glob("eval/*/test.json")
  assert json.loads(file.read_text())["data_split"] == "validation"
  values = [float(row["loss"]) for row in rows_of(path)]
  assert_allclose(np.mean(values), result["loss"], rtol=1e-6, atol=1e-4)


def test_other_shapes_are_refused(run):
  config, workdir = changed(run, data__resize=8)
  with pytest.raises(ConfigError, match=r"has images of \[8, 8, 1\] .*resize"):
    score.run(config, workdir)


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"normal": "Smilng"}, "no label 'Smilng' in .*did you mean 'Smiling'"),
    ({"label": "1"}, "trained without labels"),
  ],
)
def test_wrong_flags_are_refused(run, flags, message):
  with pytest.raises(ConfigError, match=message):
    score.run(*run, **flags)


def test_the_likeliest_image_is_none_of_the_data(run):
  model = vae_jax.load(run[1])
  images = model.experiment.source("test").fetch(np.arange(32))["image"]
  # Where the decoder is above one half, white is the likeliest pixel.
  silhouette = (model.reconstruct(images).mean(axis=0) > 127.5) * np.uint8(255)
  odd = model.log_prob(silhouette, samples=4)
  assert odd > model.log_prob(images, samples=4).max()
