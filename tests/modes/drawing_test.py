"""Modes that draw to figures/: the arrays beside the pictures, by value."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import stats

from tests.support.tiny import tiny_config
from vae_jax import modes
from vae_jax.config import ConfigError, check
from vae_jax.latents import interpolation, trained_model
from vae_jax.training import build, experiment

SHAPE = (16, 16, 1)
CONDITIONAL = {
  "model__condition": "label",
  "data__label": "attributes/Smiling",
  "data__num_labels": 2,
}


@pytest.fixture
def make(faces_dir, tmp_path, monkeypatch):
  """Returns a function that makes an untrained model, which modes open."""

  def make(**settings):
    c = tiny_config(faces_dir, data__image_shape=SHAPE, **settings)
    variables = build.init_variables(c, SHAPE)
    # Larger than at the start, so that codes and images differ.
    variables = jax.tree.map(lambda v: np.asarray(3 * v), variables)
    model = trained_model.TrainedModel(
      experiment.build(c), tmp_path, 0, variables, chunk=16
    )
    monkeypatch.setattr(trained_model, "open_run", lambda *_: model)
    return model

  return make


def draw(mode, model, **flags):
  """Runs a mode that draws; returns its text and its arrays."""
  folder = model.workdir / "figures"
  text = modes.find(mode).run(model.config, str(model.workdir), flags)
  for line in text.splitlines()[text.startswith("Mean") :]:
    path = pathlib.Path(line)
    assert path.exists() and folder in path.parents
  name = "samples" if mode == "sample" else mode
  return text, dict(np.load(folder / f"{name}.npz"))


def fetch(model, *index, split="test"):
  return model.experiment.source(split).fetch(np.array(index))


def posterior(model):
  """Returns mean and log variance of the codes of all test images."""
  image = jnp.asarray(fetch(model, *range(32))["image"])
  group = nn.apply(lambda vae: vae.encode(image), model.vae)(model.variables)
  (normal,) = group.groups
  return np.float64(normal.mean), np.float64(normal.log_variance)


def refusal(mode, model, **flags):
  """Returns the message of a mode that refuses its flags, before it writes."""
  with pytest.raises(ConfigError) as caught:
    draw(mode, model, **flags)
  assert "\n" not in str(caught.value)
  assert not (model.workdir / "figures").exists()
  return str(caught.value)


@pytest.mark.parametrize(
  "mode, flags, message",
  [
    ("decode", {}, "--mode=decode needs --latent: 3 numbers"),
    ("decode", {"latent": "1,2"}, "are 2 numbers; it must be 3 for each code"),
    ("interpolate", {"images": "data:test:0"}, "--images are 1, and must be"),
    ("interpolate", {"images": "data:test:0-4"}, "--images are 5, and must"),
    ("interpolate", {"steps": 1}, "--steps is 1; it must be from 2 to 100"),
    ("manifold", {}, "config.model.latent_dim=3, for which there is"),
    ("manifold", {"steps": -4}, "--steps is -4"),
    ("reconstruct", {"images": "data:test:99"}, "there is no image 99"),
    ("sample", {"count": 0}, "--count is 0; it must be 1 or more"),
    (
      "sample",
      {"temperature": -0.5},
      "--temperature is -0.5; it must be a fin",
    ),
    ("sample", {"temperature": np.inf}, "--temperature is inf"),
    ("traverse", {"steps": 101}, "--steps is 101; it must be from 2 to 100"),
    ("traverse", {"images": "nobody.png"}, "there is no such file"),
  ],
)
def test_wrong_flags_are_refused(make, mode, flags, message):
  assert message in refusal(mode, make(), **flags)


def test_codes_of_a_conditional_model_are_decoded_as_each_class(make):
  model = make(model__latent_dim=2, **CONDITIONAL)
  z = np.float32([[0.5, -1]])
  _, rows = draw("decode", model, latent="0.5,-1")
  assert_array_equal(rows["labels"], [0, 1])
  for label in (0, 1):
    expected = model.decode(z, label)
    assert_array_equal(rows["images"][label], expected)
    _, arrays = draw("decode", model, latent="0.5,-1", label=str(label))
    assert_array_equal(arrays["images"], expected)
    assert_array_equal(arrays["labels"], [label])
  assert not np.array_equal(rows["images"][0], rows["images"][1])


def test_manifold_of_a_conditional_model_is_one_for_each_class(make):
  model = make(model__latent_dim=2, **CONDITIONAL)
  _, rows = draw("manifold", model, steps=2)
  assert rows["images"].shape == (2, 4, *SHAPE)
  _, one = draw("manifold", model, steps=2, label="1")
  assert_array_equal(one["images"], rows["images"][1])
  assert_array_equal(one["images"], model.decode(one["codes"], 1))


def test_samples_of_a_conditional_model_have_rows_of_classes(make):
  model = make(**CONDITIONAL)
  text, arrays = draw("sample", model, count=5)
  assert_array_equal(arrays["labels"], [0, 1, 0, 1, 0])
  assert_array_equal(arrays["images"], model.sample(5))
  height, width = np.asarray(Image.open(text)).shape[:2]
  assert width > height  # Two rows of three.
  _, arrays = draw("sample", model, count=5, label="1")
  assert_array_equal(arrays["labels"], np.ones(5))
  assert_array_equal(arrays["images"], model.sample(5, label=1))


def test_attributes_are_the_condition_that_is_named(make):
  model = make(
    model__condition="attributes", data__label="attributes",
    data__num_labels=26,
  )  # fmt: skip
  smiling = model.experiment.splits.label_names.index("Smiling")
  label = np.zeros(26, np.int32)
  label[smiling] = 1
  _, arrays = draw("sample", model, count=2, attribute="Smiling")
  assert_array_equal(arrays["labels"], [label, label])
  _, arrays = draw("decode", model, latent="1,0,1", attribute="Smiling")
  assert_array_equal(arrays["images"], model.decode([[1, 0, 1]], label))
  # Attributes that are not named stay those of the image.
  data = fetch(model, 0, 1)
  _, arrays = draw(
    "reconstruct", model, images="data:test:0-1", attribute="Smiling"
  )
  changed = data["label"].astype(np.int32)
  changed[:, smiling] = 1
  assert_array_equal(arrays["labels"], changed)
  expected = model.reconstruct(data["image"], changed)
  assert_array_equal(arrays["reconstructions"], expected)


def test_attributes_of_codes_must_be_named(make):
  model = make(
    model__condition="attributes", data__label="attributes",
    data__num_labels=26,
  )  # fmt: skip
  assert "name them, as --attr" in refusal("decode", model, latent="1,0,1")
  wrong = refusal("decode", model, latent="1,0,1", label="3")
  assert wrong == (
    "--label is '3', but config.model.condition is 'attributes': choose the "
    "condition by --attribute."
  )


def test_unconditional_model_takes_no_label(make):
  model = make()
  assert "trained without labels" in refusal("sample", model, label="1")
  assert "trained without" in refusal("reconstruct", model, attribute="Smiling")


def test_files_are_reconstructed_as_the_label_or_as_each_class(make, tmp_path):
  model = make(**CONDITIONAL)
  data = fetch(model, 0, 3)
  file = tmp_path / "face.png"
  Image.fromarray(data["image"][0, ..., 0]).save(file)
  _, rows = draw("reconstruct", model, images=str(file))
  assert_array_equal(rows["labels"], [0, 1])
  assert_array_equal(rows["originals"], data["image"][:1])
  for label in (0, 1):
    expected = model.reconstruct(data["image"][:1], label)
    assert_array_equal(rows["reconstructions"][label], expected)
    _, arrays = draw("reconstruct", model, images=str(file), label=str(label))
    assert_array_equal(arrays["reconstructions"], expected)
  _, own = draw("reconstruct", model, images="data:test:0,3")
  assert_array_equal(own["labels"], data["label"])


def test_decoded_images_are_those_of_the_codes(make, tmp_path):
  model = make()
  _, arrays = draw("decode", model, latent="0.5,-1,2")
  code = np.array([[0.5, -1, 2]], np.float32)
  assert_array_equal(arrays["codes"], code)
  assert_array_equal(arrays["images"], model.decode(code))
  np.save(tmp_path / "codes.npy", np.repeat(code, 30, 0))
  _, arrays = draw("decode", model, latent=str(tmp_path / "codes.npy"))
  assert arrays["images"].shape == (30, *SHAPE)


def test_reconstructions_are_those_of_the_model(make):
  model = make()
  text, arrays = draw("reconstruct", model, images="data:test:3,5,9")
  image = fetch(model, 3, 5, 9)["image"]
  assert_array_equal(arrays["originals"], image)
  codes = model.encode(image)
  assert_array_equal(arrays["codes"], codes)
  assert_array_equal(arrays["reconstructions"], model.decode(codes))
  difference = arrays["reconstructions"] / 255 - image / 255
  assert "Mean squared error of 3 images" in text
  assert f": {np.mean(difference**2):.5f}." in text
  path = model.workdir / "figures" / "reconstruct.npz"
  first = path.read_bytes()
  draw("reconstruct", model, images="data:test:3,5,9")
  assert path.read_bytes() == first
  _, arrays = draw("reconstruct", model)
  assert len(arrays["originals"]) == 30


def test_codes_have_deviations_names_and_a_table(make):
  model = make()
  _, arrays = draw("reconstruct", model, images="data:test:3,5")
  mean, log_variance = posterior(model)
  sigma = np.exp(log_variance / 2)
  assert_allclose(arrays["codes"], mean[[3, 5]], rtol=1e-4, atol=1e-5)
  assert_allclose(arrays["deviations"], sigma[[3, 5]], rtol=1e-4)
  assert arrays["names"].tolist() == ["test 3", "test 5"]
  text = (model.workdir / "figures" / "reconstruct.csv").read_text()
  head, first, _ = text.splitlines()
  head = head.split(",")
  assert head[0] == "name" and head[-6:] == ["z0", "z1", "z2", "s0", "s1", "s2"]
  values = np.float32(first.split(",")[-6:])
  assert_array_equal(values[:3], arrays["codes"][0])
  assert_array_equal(values[3:], arrays["deviations"][0])
  label = dict(zip(head, first.split(","), strict=True))["Smiling"]
  smiling = model.experiment.splits.label_names.index("Smiling")
  assert int(label) == arrays["labels"][0, smiling]


def test_samples_at_temperature_zero_are_one_image(make):
  model = make(sample__temperature=0.0)
  check.validate(model.config)
  _, arrays = draw("sample", model, count=5)
  (middle,) = model.decode(np.zeros((1, 3), np.float32))
  assert_array_equal(arrays["images"], np.stack([middle] * 5))
  model.config.sample.temperature = -0.5
  with pytest.raises(ConfigError, match="sample.temperature is -0.5"):
    check.validate(model.config)


def test_folder_holds_samples_of_the_last_run_only(make):
  model = make()
  draw("sample", model, count=12, individual=True)
  own = model.workdir / "figures" / "samples" / "mine.png"
  own.write_bytes(b"")
  text, arrays = draw("sample", model, count=3, individual=True)
  names = sorted(path.name for path in pathlib.Path(text).iterdir())
  assert names == ["00000.png", "00001.png", "00002.png", "mine.png"]
  for i in range(3):
    stored = np.asarray(Image.open(f"{text}/0000{i}.png"))
    assert_array_equal(stored, arrays["images"][i, ..., 0])


def test_manifold_is_at_quantiles_of_the_prior(make):
  model = make(model__latent_dim=2)
  _, arrays = draw("manifold", model, steps=3)
  q = stats.norm.ppf(5 / 6)
  expected = [[x, y] for y in (q, 0, -q) for x in (-q, 0, q)]
  assert_allclose(arrays["codes"], expected, atol=1e-6)
  assert_array_equal(arrays["images"], model.decode(arrays["codes"]))


def test_manifold_of_deterministic_codes_is_at_their_quantiles(make):
  model = make(model__latent_dim=2, model__posterior__name="deterministic")
  _, arrays = draw("manifold", model, steps=2)
  count = len(model.experiment.source("validation"))
  codes = model.encode(fetch(model, *range(count), split="validation")["image"])
  (x0, y0), (x1, y1) = np.quantile(codes, [0.25, 0.75], axis=0)
  expected = [[x0, y1], [x1, y1], [x0, y0], [x1, y0]]
  assert_allclose(arrays["codes"], expected, rtol=1e-4)


def test_paths_go_from_image_to_image(make):
  model = make()
  _, arrays = draw("interpolate", model, images="data:test:4,2,7,1", steps=5)
  data = fetch(model, 4, 2, 7, 1)["image"]
  assert arrays["images"].shape == (2, 2, 5, *SHAPE)
  assert_array_equal(arrays["originals"], data.reshape(2, 2, *SHAPE))
  assert_array_equal(arrays["t"], [0, 0.25, 0.5, 0.75, 1])
  codes = model.encode(data)
  ends = model.decode(codes)
  for pair in range(2):
    a, b = codes[2 * pair : 2 * pair + 2]
    paths = (interpolation.linear, interpolation.spherical)
    for kind, path in enumerate(paths):
      row = arrays["images"][pair, kind]
      assert_array_equal(row[0], ends[2 * pair])
      assert_array_equal(row[-1], ends[2 * pair + 1])
      assert_array_equal(row, model.decode(path(a, b, arrays["t"])))
  _, arrays = draw("interpolate", model)
  assert arrays["images"].shape == (4, 2, 9, *SHAPE)


def test_path_of_a_conditional_model_has_the_nearer_label(make):
  model = make(**CONDITIONAL)
  labels = fetch(model, *range(32))["label"]
  ends = f"data:test:{np.argmin(labels)},{np.argmax(labels)}"
  _, arrays = draw("interpolate", model, images=ends, steps=4)
  for kind in range(2):
    codes = arrays["codes"][0, kind]
    decoded = model.decode(codes, np.array([0, 0, 1, 1], np.int32))
    assert_array_equal(arrays["images"][0, kind], decoded)
    unlike = model.decode(codes, np.array([1, 1, 0, 0], np.int32))
    assert (unlike != decoded).any(axis=(1, 2, 3)).all()


def test_each_latent_is_set_to_quantiles(make):
  model = make()
  text, arrays = draw("traverse", model, images="data:test:6", steps=3)
  assert text.endswith("figures/traverse.png")
  (code,) = model.encode(fetch(model, 6)["image"])
  quantiles = stats.norm.ppf([1 / 6, 1 / 2, 5 / 6])
  assert_allclose(arrays["values"], [quantiles] * 3, atol=1e-6)
  assert arrays["images"].shape == (1, 3, 3, *SHAPE)
  for j in range(3):
    for k in range(3):
      varied = code.copy()
      varied[j] = quantiles[k]
      decoded = model.decode(varied[None])[0]
      assert_allclose(arrays["images"][0, j, k].astype(int), decoded, atol=1)


def test_latents_are_ranked_by_closed_form_kl(make):
  """Against the closed form of the KL, image by image."""
  model = make()
  _, arrays = draw("traverse", model, steps=2)
  mean, log_variance = posterior(model)
  kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
  assert_allclose(arrays["carried"], kl.mean(axis=0), rtol=1e-4)
  assert (np.diff(arrays["carried"][arrays["order"]]) <= 0).all()


def test_latents_without_closed_form_are_ranked_by_kl_to_aggregate(make):
  model = make(
    model__prior__name="gaussian_mixture", model__prior__args__num_components=2
  )
  _, arrays = draw("traverse", model, steps=4)
  mean, log_variance = posterior(model)
  variance = np.exp(log_variance)
  m, v = mean.mean(axis=0), (mean**2 + variance).mean(axis=0)
  v = v - m**2
  kl = 0.5 * (((mean - m) ** 2 + variance) / v - 1 - np.log(variance / v))
  assert_allclose(arrays["carried"], kl.mean(axis=0), rtol=1e-4)
  levels = np.quantile(mean, [0.125, 0.375, 0.625, 0.875], axis=0).T
  assert_allclose(arrays["values"], levels, atol=1e-5)


def test_deterministic_latents_are_ranked_by_deviation(make):
  model = make(
    objective__name="autoencoder",
    model__posterior__name="deterministic",
    model__likelihood__name="gaussian",
    model__latent_dim=40,
  )
  text, arrays = draw("traverse", model, images="data:test:0-1", steps=2)
  names = [pathlib.Path(x).name for x in text.splitlines()]
  assert names == ["traverse_0.png", "traverse_1.png"]
  codes = model.encode(fetch(model, *range(32))["image"])
  assert_allclose(arrays["carried"], codes.std(axis=0), rtol=1e-4)
  levels = np.quantile(codes, [0.25, 0.75], axis=0).T
  assert_allclose(arrays["values"], levels, rtol=1e-4, atol=1e-5)
  # All in the array; the picture is of 32.
  assert arrays["images"].shape == (2, 40, 2, *SHAPE)
  assert np.asarray(Image.open(text.splitlines()[0])).shape[0] < 33 * 70
  draw("traverse", model, images="data:test:0", steps=2)
  (left,) = (model.workdir / "figures").glob("*.png")
  assert left.name == "traverse.png"


def test_conditional_model_receives_labels_of_images(make):
  model = make(**CONDITIONAL)
  _, arrays = draw("traverse", model, images="data:test:0-7", steps=2)
  data = fetch(model, *range(8))
  assert len(set(data["label"].tolist())) == 2
  varied = model.encode(data["image"], label=data["label"])
  varied[:, 1] = arrays["values"][1, 0]
  decoded = model.decode(varied, data["label"])
  assert_array_equal(arrays["images"][:, 1, 0], decoded)
