"""`--mode=embed`: planes, pictures and TensorBoard's projector."""

import pathlib
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as pillow  # noqa: N813

from tests.figures import projector_test
from vae_jax import config as config_lib
from vae_jax.latents import trained_model
from vae_jax.modes import embed


@pytest.fixture
def no_umap(monkeypatch):
  monkeypatch.setitem(sys.modules, "umap", None)


def test_pca_finds_a_line_and_its_width():
  rng = np.random.RandomState(0)
  along, across = rng.randn(2, 500)
  # 3 along (0.6, 0, -0.8), whose largest weight is negative: it is turned.
  codes = np.outer(3 * along, [0.6, 0, -0.8]) + np.outer(across, [0.8, 0, 0.6])
  points, shares = embed.pca(codes.astype(np.float32) + 7)
  assert np.corrcoef(points[:, 0], -along)[0, 1] > 0.99
  assert np.corrcoef(points[:, 1], across)[0, 1] > 0.99
  variances = points.var(axis=0)
  total = codes.var(axis=0).sum()
  assert_allclose(shares, variances / total, rtol=1e-4)
  assert_allclose(shares.sum(), 1, rtol=1e-5)


def test_pca_of_one_dimension_is_a_line():
  codes = np.float32([[1], [2], [6]])
  points, shares = embed.pca(codes)
  assert_allclose(points, [[-2, 0], [-1, 0], [3, 0]], atol=1e-6)
  assert_allclose(shares, [1, 0])


def test_best_explained_attributes_come_first():
  rng = np.random.RandomState(0)
  points = rng.randn(400, 2)
  x, y = points.T
  labels = [rng.rand(400) < 0.5, x + y > 0, np.ones(400)]
  labels = np.uint8([*labels, y + rng.randn(400) > 1]).T
  best = embed.best_explained(points, labels, ("none", "both", "all", "second"))
  order = [c.title.partition(",")[0] for c in best]
  assert order == ["both", "second", "none", "all"]
  assert best[0].names == ("not both", "both")
  assert_array_equal(best[0].labels, labels[:, 1])
  # A sign of a normal x explains E[|x|]^2 = 2 / pi of its variance.
  explained = float(best[0].title.rpartition(" ")[2])
  assert explained == pytest.approx(2 / np.pi, abs=0.04)


def test_files_hold_codes_labels_and_images(run, no_umap):
  folder = pathlib.Path(run[1]) / "embed"
  message = embed.run(*run)
  assert "UMAP is left out, since umap-learn is not installed" in message
  for line in message.splitlines():
    if line.endswith((".npz", ".png")):
      assert pathlib.Path(line).exists()
  arrays = np.load(folder / "test.npz")
  model = trained_model.open_run(*run)
  source = model.experiment.source("test")
  data = source.fetch(np.arange(len(source)))
  # The bits of Python.
  assert_array_equal(arrays["codes"], model.encode(data["image"]))
  assert_array_equal(arrays["deviations"], model.deviations(data["image"]))
  assert_array_equal(arrays["labels"], data["label"])
  assert_array_equal(arrays["index"], np.arange(len(source)))
  assert arrays["label_names"][arrays["labels"].shape[1] - 1]
  assert arrays["pca"].shape == (len(source), 2)
  assert arrays["names"][4] == "test 4"
  table = (folder / "test.csv").read_text().splitlines()
  assert (
    table[0].endswith(",z0,z1,z2,s0,s1,s2") and len(table) == len(source) + 1
  )
  assert "umap" not in arrays

  rows, sprite, size = projector_test.read_projector(folder / "projector")
  assert size == [16, 16]
  assert "Smiling" in rows["metadata_path"][0]
  assert_array_equal(np.asarray(sprite)[:16, :16], data["image"][0, ..., 0])
  assert len(rows["tensor_path"]) == len(source)

  before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
  embed.run(*run)
  assert {p: p.read_bytes() for p in before} == before


def test_files_are_embedded_by_name(run, no_umap, tmp_path):
  model = trained_model.open_run(*run)
  image = model.experiment.source("test").fetch(np.arange(2))["image"]
  for name, pixels in zip(("b", "a"), image, strict=True):
    pillow.fromarray(pixels[..., 0]).save(tmp_path / f"{name}.png")
  embed.run(*run, images=f"{tmp_path}/*.png | data:test:0")
  arrays = np.load(pathlib.Path(run[1]) / "embed" / "images.npz")
  assert arrays["names"].tolist() == ["a.png", "b.png", "test 0"]
  assert_array_equal(arrays["codes"], model.encode(image[[1, 0, 0]]))
  assert "labels" not in arrays


def test_equal_codes_are_at_zero():
  points, shares = embed.pca(np.ones((4, 3), np.float32))
  assert_array_equal(points, np.zeros((4, 2)))
  assert_array_equal(shares, [0, 0])


@pytest.mark.slow
def test_umap_separates_clusters_and_is_deterministic():
  pytest.importorskip("umap")
  rng = np.random.RandomState(0)
  centre = np.repeat([[0.0] * 5, [20.0] * 5], 50, axis=0)
  codes = (centre + rng.randn(100, 5)).astype(np.float32)
  points = embed.umap(codes)
  assert_array_equal(points, embed.umap(codes))
  inside = np.linalg.norm(points[:50] - points[:50].mean(0), axis=1).max()
  apart = np.linalg.norm(points[:50].mean(0) - points[50:].mean(0))
  assert apart > 2 * inside


@pytest.mark.parametrize(
  "codes, message", [(3, "more than 15"), (20, "umap-learn")]
)
def test_umap_refuses_with_a_reason(codes, message, no_umap):
  with pytest.raises(config_lib.ConfigError, match=message):
    embed.umap(np.zeros((codes, 2), np.float32))


def test_unknown_attribute_is_refused(run):
  with pytest.raises(config_lib.ConfigError, match="did you mean 'Smiling'"):
    embed.run(*run, attribute="Smilng")
