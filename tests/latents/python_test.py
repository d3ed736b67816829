"""`vae_jax.load`: what a notebook calls, against modes and plain loops."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

import vae_jax
from tests.support.tiny import tiny_config, untrained
from vae_jax import distributions, modes
from vae_jax.config import ConfigError
from vae_jax.distributions import defaults
from vae_jax.latents import apply, interpolation, trained_model
from vae_jax.modes import sample as sample_mode
from vae_jax.training import build, experiment

SHAPE = (16, 16, 1)


class Laplace:
  """A posterior of one's own, of scale 1 about its mean."""

  def __init__(self, mean):
    self.mean = mean

  def sample(self, key):
    def draw(key, mean):
      return mean + jax.random.laplace(key, mean.shape)

    return jax.vmap(draw)(key, self.mean)


@pytest.fixture(scope="module")
def model(reference):
  return vae_jax.load(reference[0])


@pytest.fixture(scope="module")
def images(model):
  return model.experiment.source("test").fetch(np.arange(5))["image"]


def conditional(faces_dir, tmp_path, kind, **settings):
  config = tiny_config(
    faces_dir, data__image_shape=SHAPE, model__condition=kind, **settings
  )
  variables = jax.tree.map(
    lambda v: np.asarray(3 * v), build.init_variables(config, SHAPE)
  )
  return trained_model.TrainedModel(
    experiment.build(config), tmp_path, 0, variables, chunk=4
  )


def test_real_numbers_are_the_levels_they_round_to(model, images):
  codes = model.encode(images)
  assert codes.dtype == np.float32 and type(codes) is np.ndarray
  for dtype in (np.float32, np.float64):
    assert_array_equal(model.encode(images.astype(dtype) / 255), codes)
  half = np.full((1, *SHAPE), 0.5)
  narrow = jnp.asarray(half, jnp.bfloat16)
  assert_array_equal(model.encode(narrow), model.encode(half))
  assert_array_equal(
    model.encode(half), model.encode(np.full((1, *SHAPE), 128, np.uint8))
  )


def test_one_image_gives_one_result_and_the_bits_of_many(model, images):
  codes, rebuilt = model.encode(images), model.reconstruct(images)
  assert_array_equal(model.encode(images[3]), codes[3])
  assert_array_equal(model.encode(images[3, ..., 0]), codes[3])
  assert_array_equal(model.encode(images[..., 0]), codes)
  assert_array_equal(model.decode(codes[3]), rebuilt[3])
  assert_array_equal(model.reconstruct(images[3]), rebuilt[3])
  assert_array_equal(model.decode(codes.tolist()), rebuilt)
  assert model.log_prob(images[0], samples=2).shape == ()


def test_any_number_is_one_compiled_shape(model, images):
  many = np.concatenate([images] * 14)  # 70, more than a chunk
  model.encode(images)
  before = apply.encode._cache_size()
  codes = model.encode(many)
  assert_array_equal(codes[65:], model.encode(images))
  assert apply.encode._cache_size() == before
  assert repr(model) == f"TrainedModel({str(model.workdir)!r}, step=20)"
  none = images[:0]
  assert model.encode(none).shape == (0, 3)
  assert model.reconstruct(none).shape == (0, *SHAPE)
  assert model.sample(0).shape == (0, *SHAPE)


def test_draws_of_posteriors_have_their_mean_and_deviation(model, images):
  few = images[:2]
  mean, deviation = model.encode(few), model.deviations(few)
  draws = np.stack([model.encode(few, sample=True, seed=s) for s in range(300)])
  assert_array_equal(draws[7], model.encode(few, True, 7))
  # Standard errors are sigma / 17 and sigma / 24.
  assert np.all(np.abs(draws.mean(axis=0) - mean) < deviation / 4)
  assert_allclose(draws.std(axis=0), deviation, rtol=0.2)


def test_deviations_without_a_closed_form_are_those_of_draws(
  faces_dir, tmp_path
):
  config = tiny_config(faces_dir, model__posterior__name="iaf")
  config.model.posterior.args.hidden = (8,)
  model = untrained(config, tmp_path)
  layers = model.variables["params"]["posterior"]
  # So that the layers do more than a scale and a shift.
  for name in [name for name in layers if name.startswith("made_")]:
    layers[name] = jax.tree.map(lambda v: 2 * v, layers[name])
  one = model.experiment.source("test").fetch(np.arange(1))["image"]
  model = dataclasses.replace(model, chunk=1000)
  many = np.repeat(one, 1000, axis=0)
  draws = model.encode(many, sample=True).std(axis=0, dtype=np.float64)
  # A value for each position of the image, from 256 draws.
  found = model.deviations(many)
  assert_allclose(np.sqrt(np.mean(found**2, axis=0)), draws, rtol=0.1)
  assert np.all(np.abs(found[:50] / draws - 1) < 0.3)
  # That of the normal before the layers is another.
  image = jnp.asarray(one)
  base = nn.apply(lambda vae: vae.encode(image).groups[0].base, model.vae)
  before = np.exp(0.5 * base(model.variables).log_variance)
  assert not np.allclose(before, draws, rtol=0.1)


def test_deviations_of_a_posterior_of_ones_own(faces_dir):
  mean = jnp.zeros((50, 3))
  own = defaults.posterior(Laplace(mean))
  keys = jax.random.split(jax.random.key(0), 50)
  (found,) = apply.deviation(distributions.Groups((own,)), keys)
  # Of Laplace(0, 1), of which 50 x 3 estimates are averaged.
  assert_allclose(np.mean(found), np.sqrt(2), rtol=0.02)


def test_samples_are_those_of_the_mode(model, tmp_path):
  config = model.config.copy_and_resolve_references()
  config.sample.seed = 3
  sample_mode.run(config, str(model.workdir), count=6, temperature=0.5)
  arrays = np.load(model.workdir / "figures" / "samples.npz")
  drawn = model.sample(6, temperature=0.5, seed=3)
  assert_array_equal(drawn, arrays["images"])
  assert not np.array_equal(drawn, model.sample(6, temperature=0.5))
  still = model.sample(2, temperature=0)
  assert_array_equal(still[0], still[1])


def test_path_decodes_the_codes_between_two_images(model, images):
  z = model.encode(images)
  for kind in ("linear", "spherical"):
    path = model.interpolate(images[0], images[1], steps=5, kind=kind)
    t = np.linspace(0, 1, 5)
    between = getattr(interpolation, kind)(z[0], z[1], t)
    assert_array_equal(path, model.decode(between))
  many = model.interpolate(images[:2], images[1:3], steps=5)
  assert many.shape == (2, 5, *SHAPE)
  assert_array_equal(many[0], model.interpolate(images[0], images[1], 5))


@pytest.mark.parametrize(
  "given, message",
  [
    (np.zeros((2, 1, 16, 16), np.uint8), "channels are first here"),
    (np.zeros((1, 16, 16), np.float32), None),  # many gray ones
    (np.zeros((2, 16, 8, 1), np.uint8), r"reads \[16, 16, 1\], or \[n, 16,"),
    (np.zeros(SHAPE, np.int64), "int64.*must be uint8 from 0 to 255"),
    (np.full(SHAPE, 255.0), "a value 255; .* from 0 to 1.*astype"),
    (np.full(SHAPE, -0.1), "a value -0.1"),
    (np.full(SHAPE, np.nan), "a value nan; real numbers must be from 0 to 1.$"),
    ("cat.png", "The images are <U7 "),
    ([[0, 1], [2]], "The images are no array of numbers: .*inhomogeneous"),
  ],
)
def test_images_are_checked(model, given, message):
  if message is None:
    assert model.encode(given).shape == (1, 3)
    return
  with pytest.raises(ConfigError, match=message):
    model.encode(given)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda m: m.decode(np.zeros(4)),
      r"\[4\]; they must be real numbers \[3\]",
    ),
    (lambda m: m.decode([0, np.nan, 0]), "nan or infinity"),
    (lambda m: m.decode([0, 1e39, 0]), "nan or infinity"),
    (
      lambda m: m.sample(-1),
      "n is -1; it must be a whole number of at least 0",
    ),
    (lambda m: m.sample(2.5), "n is 2.5"),
    (lambda m: m.sample(1, temperature=-1), "temperature is -1"),
    (lambda m: m.sample(1, temperature="1"), "temperature is '1'; .* finite"),
    (lambda m: m.sample(1, seed=2**32), "seed is 4294967296; .* below"),
    (lambda m: m.sample(1, label=0), "trained without labels"),
    (lambda m: m.log_prob(np.zeros(SHAPE), samples=0), "samples is 0; .* 1"),
    (lambda m: m.score(np.zeros((0, *SHAPE))), "There are no images"),
    (
      lambda m: m.interpolate(np.zeros(SHAPE), np.zeros(SHAPE), kind="arc"),
      "kind is 'arc'; it must be one of linear, spherical",
    ),
    (
      lambda m: m.interpolate(np.zeros(SHAPE), np.zeros((2, *SHAPE))),
      "a is one image and b 2 images",
    ),
    (lambda m: m.direction("Smilng"), "did you mean Smiling"),
  ],
)
def test_other_arguments_are_checked(model, call, message):
  with pytest.raises(ConfigError, match=message):
    call(model)


def test_checkpoint_is_latest_or_best(reference):
  with pytest.raises(
    ConfigError, match="'newest'; it must be one of latest, b"
  ):
    vae_jax.load(reference[0], checkpoint="newest")
  assert vae_jax.load(reference[0], "best").config.eval.checkpoint == "best"
  with pytest.raises(ConfigError, match="chunk is 0; .* at least 1"):
    vae_jax.load(reference[0], chunk=0)
  with pytest.raises(ConfigError, match="workdir is 3; it must be a path"):
    vae_jax.load(3)


def test_direction_is_the_one_that_edits_use(model):
  vector = model.direction("Smiling", kind="mean")
  arrays = np.load(pathlib.Path(model.workdir, "attributes", "directions.npz"))
  names = arrays["names"].tolist()
  assert_array_equal(vector, arrays["vectors"][0, names.index("Smiling")])


def test_label_is_a_name_an_index_or_one_for_each(faces_dir, tmp_path):
  model = conditional(
    faces_dir,
    tmp_path,
    "label",
    data__label="attributes/Smiling",
    data__num_labels=2,
  )
  names = model.experiment.splits.label_names
  z = np.float32([[1, 0, -1], [0, 2, 0], [1, 1, 1]])
  ones = model.decode(z, np.ones(3, np.int32))
  assert not np.array_equal(ones, model.decode(z, np.zeros(3, np.int32)))
  named = (names or ("0", "1"))[1]
  for label in (1, "1", np.int64(1), [1, 1, 1], named, [named] * 3):
    assert_array_equal(model.decode(z, label), ones)
  assert_array_equal(model.decode(z[0], 1), ones[0])
  seven = model.sample(4, label=1)
  assert_array_equal(seven[1], model.sample(4, label=[0, 1, 0, 0])[1])
  for label, message in (
    (None, r"the codes need a label each, integers \[3\] from 0 to 1"),
    ([0, 2, 0], "The label of codes number 1 is 2; it must be from 0 to 1"),
    ([0, 1], r"int64 \[2\]; they must be integers \[3\]"),
    ("cat", "The label is 'cat'; it must be a class of"),
  ):
    with pytest.raises(ConfigError, match=message):
      model.decode(z, label)


def test_attributes_that_are_not_named_are_absent(faces_dir, tmp_path):
  model = conditional(
    faces_dir, tmp_path, "attributes", data__label="attributes",
    data__num_labels=26,
  )  # fmt: skip
  names = list(model.experiment.splits.label_names)
  wanted = np.zeros((2, len(names)), np.int32)
  wanted[:, names.index("Smiling")] = wanted[:, names.index("Bald")] = 1
  z = np.float32([[1, 0, -1], [0, 2, 0]])
  expected = model.decode(z, wanted)
  for label in (
    "Smiling, Bald=1,Eyeglasses=0",
    {"Smiling": 1, "Bald": 1},
    wanted[0],
  ):
    assert_array_equal(model.decode(z, label), expected)
  with pytest.raises(ConfigError, match="'Smilng', which .* did you mean"):
    model.decode(z, "Smilng")
  with pytest.raises(ConfigError, match="Smiling is 2; as a condition it must"):
    model.decode(z, "Smiling=2")


def test_bits_are_those_of_the_modes(model, images):
  """See also `score_test` and `embed_test`."""

  def arrays(mode, **flags):
    modes.find(mode).run(model.config, str(model.workdir), flags)
    return np.load(model.workdir / "figures" / f"{mode}.npz")

  z = model.encode(images)
  rebuilt = arrays("reconstruct", images="data:test:0-4")
  assert_array_equal(rebuilt["codes"], z)
  assert_array_equal(rebuilt["deviations"], model.deviations(images))
  assert_array_equal(rebuilt["reconstructions"], model.reconstruct(images))
  np.save(model.workdir / "z.npy", z)
  decoded = arrays("decode", latent=f"{model.workdir}/z.npy")
  assert_array_equal(decoded["images"], model.decode(z))
  paths = arrays("interpolate", images="data:test:0-3", steps=4)["images"]
  for kind, name in enumerate(interpolation.KINDS):
    path = model.interpolate(images[[0, 2]], images[[1, 3]], 4, name)
    assert_array_equal(paths[:, kind], path)
