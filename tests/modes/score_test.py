"""`--mode=score`: a row per image, whose means are those of an evaluation."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn import metrics

import vae_jax
from tests.support import pictures
from vae_jax.config import ConfigError
from vae_jax.data import datasets
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


def table_of(text):
  """Returns the printed values by name."""
  words = [line.split() for line in text.splitlines()]
  return {w[0]: w[1] for w in words if len(w) > 1}


def test_means_of_columns_are_the_printed_ones(run):
  config, workdir = changed(run, eval__importance_samples=4)
  text = score.run(config, workdir)
  path = text.splitlines()[-1]
  rows, arrays = rows_of(path), np.load(path.replace(".csv", ".npz"))
  result = evaluate.evaluate(config, workdir)
  printed = table_of(text)
  assert len(rows) == result["num_examples"] == 32
  names = {"loss", "distortion", "rate", "neg_elbo", "squared_error", "nll"}
  assert names <= printed.keys() & rows[0].keys()
  for name in names:
    values = np.array([float(row[name]) for row in rows])
    assert_array_equal(values.astype(arrays[name].dtype), arrays[name])
    assert_allclose(float(printed[name]), values.mean(), rtol=0, atol=1e-4)
    if name in result:  # All but the squared error of a Bernoulli likelihood.
      assert_allclose(result[name], values.mean(), rtol=0, atol=1e-4)
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
  smiling = arrays["label_names"].tolist().index("Smiling")
  assert_array_equal(arrays["normal"], arrays["labels"][:, smiling] == 1)
  expected = metrics.roc_auc_score(1 - arrays["normal"], arrays["loss"])
  printed = table_of(text)
  assert_allclose(float(printed["auroc.loss"]), expected, atol=1e-4)
  assert int(printed["num_normal"]) == arrays["normal"].sum()


def test_auroc_is_that_of_scikit_learn():
  rng = np.random.default_rng(0)
  # With ties, and the second higher on average.
  negative, positive = rng.integers(0, 20, 90), rng.integers(3, 25, 40)
  expected = metrics.roc_auc_score(
    np.repeat([0, 1], [90, 40]), np.concatenate([negative, positive])
  )
  ours = scores.auroc(np.float32(positive), np.float32(negative))
  assert_allclose(ours, expected, rtol=1e-12)
  assert scores.auroc(np.float32([2, 3]), np.float32([1, 2])) == 3.5 / 4
  assert scores.auroc(np.ones(4), np.ones(0)) is None
  assert scores.auroc(np.ones(4), np.array([0, np.nan])) is None


def test_files_are_named(run, tmp_path, monkeypatch):
  model = vae_jax.load(run[1])
  image = model.experiment.source("test").fetch(np.arange(2))["image"]
  Image.fromarray(image[1, ..., 0]).save(tmp_path / "my face.png")
  images = f"data:test:0 | {tmp_path}/my face.png"
  text = score.run(*run, images=images)
  rows = rows_of(text.splitlines()[-1])
  assert [row["name"] for row in rows] == ["test 0", "my face.png"]
  terms = model.score(image)
  losses = np.float32([r["loss"] for r in rows])
  assert_array_equal(losses, terms["loss"])
  # Where the data set is not at hand.
  monkeypatch.setattr(datasets, "open_splits", None)
  (row,) = rows_of(score.run(*run, images=images[14:]).splitlines()[-1])
  assert_allclose(float(row["loss"]), terms["loss"][1], rtol=0.1)


def test_folder_of_normal_and_other_pictures(run, tmp_path):
  """Every picture by its path, with the AUROC of its class."""
  image = pictures.noise(20, 16, 16)
  image[::2] //= 3
  names = [f"{'good' if i % 2 else 'torn'}/{i:02} ü.png" for i in range(20)]
  pictures.write(tmp_path / "mine", image, names)
  settings = {"data__resize": 0, "data__grayscale": False}
  config, workdir = changed(
    run, data__name=f"folder:{tmp_path}/mine", eval__split="all", **settings
  )
  text = score.run(config, workdir)
  rows = {row["name"]: row for row in rows_of(text.splitlines()[-1])}
  assert sorted(rows) == sorted(names)
  losses = np.array([float(rows[name]["loss"]) for name in names])
  # The draw of z depends on the position.
  index = np.array([int(rows[name]["index"]) for name in names])
  terms = vae_jax.load(workdir).score(image[np.argsort(index)])
  assert_array_equal(np.float32(losses), terms["loss"][index])
  assert {row["label"] for row in rows.values()} == {"good", "torn"}
  torn = np.arange(20) % 2 == 0
  printed = table_of(text)
  expected = metrics.roc_auc_score(torn, losses)
  assert_allclose(float(printed["auroc.loss"]), expected, atol=1e-4)
  assert printed["num_normal"] == "10" and printed["num_examples"] == "20"
  result = evaluate.evaluate(config, workdir)
  assert_allclose(result["loss"], losses.mean(), rtol=0, atol=1e-4)
  assert result["data_split"] == "train+validation+test"


def test_arrays_are_compared_with_the_images_of_the_run(run, tmp_path):
  image = pictures.noise(20, 16, 16)
  np.savez(tmp_path / "mine.npz", image=image)
  settings = {"data__resize": 0, "data__grayscale": False, "eval__seed": 5}
  config, workdir = changed(
    run, data__name=f"arrays:{tmp_path}/mine.npz", **settings
  )
  text = score.run(config, workdir)
  assert "score these first, by this command without --config.data" in text
  assert "auroc" not in table_of(text) and "auroc.loss" not in text
  # By their positions in the file.
  path = text.splitlines()[-1]
  names = [row["name"] for row in rows_of(path)]
  rows = [int(name.removeprefix("image ")) for name in names]
  terms = vae_jax.load(workdir).score(image[rows], seed=5)
  other = np.load(path.replace(".csv", ".npz"))
  assert_array_equal(other["loss"], terms["loss"])

  own = score.run(*changed(run, eval__seed=5)).splitlines()[-1]
  ours = np.load(own.replace(".csv", ".npz"))
  text = score.run(config, workdir)
  assert f"against those in {own.replace('.csv', '.npz')}" in text
  for name in ("loss", "squared_error"):
    expected = metrics.roc_auc_score(
      np.repeat([0, 1], [len(ours[name]), len(rows)]),
      np.concatenate([ours[name], other[name]]),
    )
    printed = float(table_of(text)[f"auroc.{name}"])
    assert_allclose(printed, expected, atol=1e-4)


def test_other_data_are_scored_in_a_folder_of_their_own(run):
  config, workdir = changed(run, data__test_split="validation")
  path = pathlib.Path(score.run(config, workdir).splitlines()[-1])
  assert path.parent.parent == pathlib.Path(workdir) / "score"
  result = evaluate.evaluate(config, workdir)
  assert result["trained_on"] == run[0].data.name
  file = pathlib.Path(workdir) / "eval" / path.parent.name / "test.json"
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
