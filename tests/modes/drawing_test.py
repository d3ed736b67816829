"""Modes that draw: the arrays beside the pictures, by value."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from scipy import stats

from tests.support.tiny import tiny_config
from vae_jax.config import ConfigError, check
from vae_jax.latents import interpolation, trained_model
from vae_jax.modes import options, reconstruct, traverse
from vae_jax.training import build, experiment

SHAPE = (16, 16, 1)


@pytest.fixture
def make(faces_dir, tmp_path, monkeypatch):
  """Returns what makes an untrained model and opens it as that of a run."""

  def made(**settings):
    c = tiny_config(faces_dir, data__image_shape=SHAPE, **settings)
    variables = build.init_variables(c, SHAPE)
    # Larger than at the start, so that codes and images differ.
    variables = jax.tree.map(lambda v: np.asarray(3 * v), variables)
    run = experiment.build(c)
    model = trained_model.TrainedModel(run, tmp_path, 0, variables, chunk=16)
    monkeypatch.setattr(trained_model, "open_run", lambda *_: model)
    return model

  return made


CONDITIONAL = {
  "model__condition": "label",
  "data__label": "attributes/Smiling",
  "data__num_labels": 2,
}


def run(mode, model, **given):
  """Runs a mode; returns what it says, and the arrays and pictures by name."""
  module = traverse if mode == "traverse" else reconstruct
  folder = model.workdir / "figures"
  said = getattr(module, mode)(
    model.config, str(model.workdir), options.Options(**given)
  )
  for line in said.splitlines()[said.startswith("Mean") :]:
    assert pathlib.Path(line).exists() and folder in pathlib.Path(line).parents
  name = "samples" if mode == "sample" else mode
  return said, dict(np.load(folder / f"{name}.npz"))


def refusal(mode, model, **given):
  with pytest.raises(ConfigError) as caught:
    run(mode, model, **given)
  assert "\n" not in str(caught.value)
  assert not (model.workdir / "figures").exists()
  return str(caught.value)


def fetch(model, *index):
  return model.experiment.source("test").fetch(np.array(index))


def posterior(model):
  """Returns mean and log variance of the code of each image of the split."""
  image = jnp.asarray(fetch(model, *range(32))["image"])
  group = nn.apply(lambda vae: vae.encode(image), model.vae)(model.variables)
  (normal,) = group.groups
  return np.float64(normal.mean), np.float64(normal.log_variance)


def test_reconstruct(make):
  model = make()
  said, found = run("reconstruct", model, images="data:test:3,5,9")
  data = fetch(model, 3, 5, 9)
  np.testing.assert_array_equal(found["originals"], data["image"])
  codes = model.encode(data["image"])
  np.testing.assert_array_equal(found["codes"], codes)
  np.testing.assert_array_equal(found["reconstructions"], model.decode(codes))
  difference = found["reconstructions"] / 255 - data["image"] / 255
  assert "Mean squared error of 3 images" in said
  assert f": {np.mean(difference**2):.5f}." in said
  path = model.workdir / "figures" / "reconstruct.npz"
  first = path.read_bytes()
  run("reconstruct", model, images="data:test:3,5,9")
  assert path.read_bytes() == first
  _, found = run("reconstruct", model)
  assert len(found["originals"]) == 30


def test_samples_without_temperature_are_one_image(make):
  model = make(sample__temperature=0.0)
  check.validate(model.config)
  _, found = run("sample", model, count=5)
  (middle,) = model.decode(np.zeros((1, 3), np.float32))
  np.testing.assert_array_equal(found["images"], np.stack([middle] * 5))
  model.config.sample.temperature = -0.5
  with pytest.raises(ConfigError, match="sample.temperature is -0.5"):
    check.validate(model.config)


def test_single_samples_are_those_of_the_last_run(make):
  model = make()
  run("sample", model, count=12, individual=True)
  own = model.workdir / "figures" / "samples" / "mine.png"
  own.write_bytes(b"")
  said, found = run("sample", model, count=3, individual=True)
  names = sorted(path.name for path in pathlib.Path(said).iterdir())
  assert names == ["00000.png", "00001.png", "00002.png", "mine.png"]
  for i in range(3):
    stored = np.asarray(Image.open(f"{said}/0000{i}.png"))
    np.testing.assert_array_equal(stored, found["images"][i, ..., 0])


def test_interpolate(make):
  model = make()
  _, found = run("interpolate", model, images="data:test:4,2,7,1", steps=5)
  data = fetch(model, 4, 2, 7, 1)["image"]
  assert found["images"].shape == (2, 2, 5, *SHAPE)
  np.testing.assert_array_equal(found["originals"], data.reshape(2, 2, *SHAPE))
  np.testing.assert_array_equal(found["t"], [0, 0.25, 0.5, 0.75, 1])
  codes = model.encode(data)
  ends = model.decode(codes)
  for pair in range(2):
    a, b = codes[2 * pair : 2 * pair + 2]
    for kind, way in enumerate((interpolation.linear, interpolation.spherical)):
      row = found["images"][pair, kind]
      np.testing.assert_array_equal(row[0], ends[2 * pair])
      np.testing.assert_array_equal(row[-1], ends[2 * pair + 1])
      np.testing.assert_array_equal(row, model.decode(way(a, b, found["t"])))
  _, found = run("interpolate", model)
  assert found["images"].shape == (4, 2, 9, *SHAPE)


def test_interpolate_with_labels(make):
  model = make(**CONDITIONAL)
  labels = fetch(model, *range(32))["label"]
  one, other = np.argmin(labels), np.argmax(labels)
  _, found = run(
    "interpolate", model, images=f"data:test:{one},{other}", steps=4
  )
  for kind in range(2):
    codes = found["codes"][0, kind]
    decoded = model.decode(codes, np.array([0, 0, 1, 1], np.int32))
    np.testing.assert_array_equal(found["images"][0, kind], decoded)
    unlike = model.decode(codes, np.array([1, 1, 0, 0], np.int32))
    assert (unlike != decoded).any(axis=(1, 2, 3)).all()


def test_traverse(make):
  model = make()
  said, found = run("traverse", model, images="data:test:6", steps=3)
  assert said.endswith("figures/traverse.png")
  (code,) = model.encode(fetch(model, 6)["image"])
  quantiles = stats.norm.ppf([1 / 6, 1 / 2, 5 / 6])
  np.testing.assert_allclose(found["values"], [quantiles] * 3, atol=1e-6)
  assert found["images"].shape == (1, 3, 3, *SHAPE)
  for j in range(3):
    for k in range(3):
      varied = code.copy()
      varied[j] = quantiles[k]
      np.testing.assert_allclose(
        found["images"][0, j, k].astype(int),
        model.decode(varied[None])[0],
        atol=1,
      )


def test_latents_that_carry_most_are_first(make):
  """Against the closed form of the KL, image by image."""
  model = make()
  _, found = run("traverse", model, steps=2)
  mean, log_variance = posterior(model)
  kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
  np.testing.assert_allclose(found["carried"], kl.mean(axis=0), rtol=1e-4)
  assert (np.diff(found["carried"][found["order"]]) <= 0).all()


def test_latents_of_a_prior_without_closed_form(make):
  model = make(
    model__prior__name="gaussian_mixture",
    model__prior__args__num_components=2,
  )
  _, found = run("traverse", model, steps=4)
  mean, log_variance = posterior(model)
  variance = np.exp(log_variance)
  m, v = mean.mean(axis=0), (mean**2 + variance).mean(axis=0)
  v = v - m**2
  kl = 0.5 * (((mean - m) ** 2 + variance) / v - 1 - np.log(variance / v))
  np.testing.assert_allclose(found["carried"], kl.mean(axis=0), rtol=1e-4)
  levels = np.quantile(mean, [0.125, 0.375, 0.625, 0.875], axis=0).T
  np.testing.assert_allclose(found["values"], levels, atol=1e-5)


def test_latents_of_codes_without_noise(make):
  model = make(
    objective__name="autoencoder",
    model__posterior__name="deterministic",
    model__likelihood__name="gaussian",
    model__latent_dim=40,
  )
  said, found = run("traverse", model, images="data:test:0-1", steps=2)
  assert [pathlib.Path(x).name for x in said.splitlines()] == [
    "traverse_0.png",
    "traverse_1.png",
  ]
  codes = model.encode(fetch(model, *range(32))["image"])
  np.testing.assert_allclose(found["carried"], codes.std(axis=0), rtol=1e-4)
  levels = np.quantile(codes, [0.25, 0.75], axis=0).T
  np.testing.assert_allclose(found["values"], levels, rtol=1e-4, atol=1e-5)
  # All in the array; the picture is of 32.
  assert found["images"].shape == (2, 40, 2, *SHAPE)
  assert np.asarray(Image.open(said.splitlines()[0])).shape[0] < 33 * 70
  run("traverse", model, images="data:test:0", steps=2)
  (left,) = (model.workdir / "figures").glob("*.png")
  assert left.name == "traverse.png"


def test_traverse_with_labels(make):
  model = make(**CONDITIONAL)
  _, found = run("traverse", model, images="data:test:0-7", steps=2)
  data = fetch(model, *range(8))
  assert len(set(data["label"].tolist())) == 2
  varied = model.encode(data["image"], data["label"])
  varied[:, 1] = found["values"][1, 0]
  decoded = model.decode(varied, data["label"])
  np.testing.assert_array_equal(found["images"][:, 1, 0], decoded)


def test_decode(make, tmp_path):
  model = make()
  _, found = run("decode", model, latent="0.5,-1,2")
  code = np.array([[0.5, -1, 2]], np.float32)
  np.testing.assert_array_equal(found["codes"], code)
  np.testing.assert_array_equal(found["images"], model.decode(code))
  np.save(tmp_path / "codes.npy", np.repeat(code, 30, 0))
  _, found = run("decode", model, latent=str(tmp_path / "codes.npy"))
  assert found["images"].shape == (30, *SHAPE)


def test_manifold(make):
  model = make(model__latent_dim=2)
  _, found = run("manifold", model, steps=3)
  q = stats.norm.ppf(5 / 6)
  expected = [[x, y] for y in (q, 0, -q) for x in (-q, 0, q)]
  np.testing.assert_allclose(found["codes"], expected, atol=1e-6)
  np.testing.assert_array_equal(found["images"], model.decode(found["codes"]))


def test_manifold_of_codes_without_noise(make):
  model = make(model__latent_dim=2, model__posterior__name="deterministic")
  _, found = run("manifold", model, steps=2)
  source = model.experiment.source("validation")
  codes = model.encode(source.fetch(np.arange(len(source)))["image"])
  (x0, y0), (x1, y1) = np.quantile(codes, [0.25, 0.75], axis=0)
  np.testing.assert_allclose(
    found["codes"], [[x0, y1], [x1, y1], [x0, y0], [x1, y0]], rtol=1e-4
  )


@pytest.mark.parametrize(
  "mode, given, said",
  [
    ("reconstruct", {"images": "data:test:99"}, "there is no image 99"),
    ("sample", {"count": 0}, "--count is 0; it must be 1 or more"),
    ("interpolate", {"images": "data:test:0"}, "--images are 1, and must be"),
    ("interpolate", {"images": "data:test:0-4"}, "--images are 5, and must"),
    ("interpolate", {"steps": 1}, "--steps is 1; it must be from 2 to 100"),
    ("traverse", {"steps": 101}, "--steps is 101; it must be from 2 to 100"),
    ("traverse", {"images": "nobody.png"}, "there is no such file"),
    ("decode", {}, "--mode=decode needs --latent: 3 numbers"),
    ("decode", {"latent": "1,2"}, "are 2 numbers; it must be 3 for each code"),
    ("manifold", {}, "config.model.latent_dim=3, for which there is"),
    ("manifold", {"steps": -4}, "--steps is -4"),
  ],
)
def test_wrong_words(make, mode, given, said):
  assert said in refusal(mode, make(), **given)


@pytest.mark.parametrize("mode", ["decode", "manifold"])
def test_codes_alone_are_not_enough_for_a_conditional_model(make, mode):
  model = make(model__latent_dim=2, **CONDITIONAL)
  given = {"latent": "1,2"} if mode == "decode" else {}
  assert "is given a label with each" in refusal(mode, model, **given)
