"""The attribute classifier: its units, its training, its file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, special

from tests.support.smiling_model import quick_classifier
from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.config import ConfigError
from vae_jax.data.synthetic_faces import dataset
from vae_jax.evaluate import attribute_classifier, train_classifier
from vae_jax.training import experiment, setup

FACTORS = sorted(
  k for k, v in dataset.FACTORS.items() if type(v).__name__ == "Continuous"
)
IMAGES = np.random.RandomState(0).randint(0, 256, (64, 16, 16, 1), np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  quick_classifier(monkeypatch)


@pytest.fixture(scope="module")
def trained(faces_dir, tmp_path_factory):
  """A classifier after a few steps, the same read again, and their folder."""
  folder = tmp_path_factory.mktemp("classifiers")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("VAE_JAX_CACHE_DIR", str(folder))
    quick_classifier(patch, images=1600)
    run = setup.prepare(tiny_config(faces_dir))
    classifier, again = (train_classifier.load_or_train(run) for _ in range(2))
  return classifier, again, folder


def test_classifier_is_trained_once_and_read_back(trained):
  classifier, again, folder = trained
  assert len(list(folder.rglob("*.npz"))) == 1
  assert_trees_equal(classifier.params, again.params)
  assert classifier.names == again.names == dataset.ATTRIBUTES
  assert list(classifier.factors) == FACTORS
  assert classifier.accuracy == again.accuracy
  # R^2 of chance is 0.
  assert classifier.accuracy["background_light"] > 0.3
  assert_array_equal(classifier.quartiles, again.quartiles)


def test_factors_have_the_scale_of_the_training_split(trained):
  classifier = trained[0]
  rows = [dataset.sample_factors("train", i) for i in range(64)]
  true = np.array([[row[name] for name in FACTORS] for row in rows])
  assert_allclose(classifier.scale, [true.mean(0), true.std(0)], rtol=1e-5)
  quartiles = np.percentile(true, [25, 50, 75], axis=0)
  assert_allclose(classifier.quartiles, quartiles, rtol=1e-5)


def test_predictions_are_the_outputs_in_their_units(trained):
  classifier = trained[0]
  predictions = classifier.predict(IMAGES[:5])
  a, f = len(classifier.names), len(classifier.factors)
  network = attribute_classifier.Network(a + f, classifier.channels)
  values = jax.jit(network.apply)(classifier.params, IMAGES[:5] / 255.0)
  features, outputs = map(np.asarray, values)
  probability = special.expit(outputs[:, :a])
  assert_allclose(predictions.probability, probability, rtol=1e-4)
  factor = outputs[:, a:] * classifier.scale[1] + classifier.scale[0]
  assert_allclose(predictions.factor, factor, rtol=1e-3, atol=1e-4)
  assert_allclose(predictions.features, features, rtol=1e-3, atol=1e-5)


def test_classes_share_one_probability(faces_dir, monkeypatch, tmp_path):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  c = tiny_config(faces_dir, data__label="factors/hair_style")
  classifier = train_classifier.load_or_train(setup.prepare(c))
  assert classifier.classes and classifier.names[0] == "bald"
  probability = classifier.predict(IMAGES[:3]).probability
  assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
  assert set(classifier.accuracy) == {*classifier.names, *FACTORS}


def test_squares_of_pixels_are_the_channels_of_one():
  image = np.arange(2 * 3 * 5 * 2).reshape(2, 3, 5, 2).astype(np.float32)
  squares = np.asarray(attribute_classifier.squares(jnp.asarray(image)))
  assert squares.shape == (2, 2, 3, 8)
  for i, j in ((0, 0), (0, 1)):
    wanted = image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(2, 8)
    assert_array_equal(squares[:, i, j], wanted)
  # The last row and column are doubled.
  assert_array_equal(squares[:, 1, 2], np.tile(image[:, 2, 4], 4))


def test_blur_is_the_binomial_filter():
  image = np.random.RandomState(0).rand(2, 9, 7, 3).astype(np.float32)
  weights = np.array([1, 4, 6, 4, 1]) / 16
  wanted = ndimage.convolve1d(image, weights, axis=1, mode="nearest")
  wanted = ndimage.convolve1d(wanted, weights, axis=2, mode="nearest")
  assert_allclose(train_classifier.blur(jnp.asarray(image)), wanted, atol=1e-6)
  for axis in (1, 2, 1, 2):
    wanted = ndimage.convolve1d(wanted, weights, axis=axis, mode="nearest")
  thrice = train_classifier.blur(jnp.asarray(image), 3)
  assert_allclose(thrice, wanted, atol=1e-6)


def test_degraded_images_are_between_sharp_and_blurred():
  degrade = jax.jit(train_classifier.degrade)
  degraded = degrade(jnp.asarray(IMAGES), jax.random.key(0))
  sharp = np.float32(IMAGES / 255.0)
  blurred = np.asarray(train_classifier.blur(jnp.asarray(sharp)))
  spread = np.asarray(degraded).std(axis=(1, 2, 3))
  # Some stay sharp, some are blurred more than once, and none alike.
  assert (spread > 0.9 * sharp.std()).any()
  assert (spread < 0.9 * blurred.std()).any()
  assert len(np.unique(spread.round(4))) > 50


def test_noise_of_a_gray_image_has_the_spread_of_the_recipe():
  gray = jnp.full((400, 9, 9, 3), 51, jnp.uint8)
  noise = np.asarray(jax.jit(train_classifier.degrade)(gray, jax.random.key(3)))
  noise = noise - np.float32(0.2)  # Blur leaves it as it is.
  assert abs(noise.mean()) < 1e-3
  # Standard deviations are uniform from 0 to the largest.
  spread = noise.std(axis=(1, 2, 3))
  largest = train_classifier.RECIPE.noise
  assert 0.95 * largest < spread.max() < 1.1 * largest
  assert_allclose(spread.mean(), largest / 2, rtol=0.1)
  # Neighbors, of which four are from one word, are independent.
  flat = (noise / spread[:, None, None, None]).reshape(400, -1)
  for shift in range(1, 6):
    assert abs((flat[:, shift:] * flat[:, :-shift]).mean()) < 0.02


def test_data_without_attributes_is_refused(faces_dir):
  run = setup.prepare(tiny_config(faces_dir))
  splits = dataclasses.replace(run.splits, label_names=None)
  run = experiment.build(run.config, splits)
  with pytest.raises(ConfigError, match="no attributes and no classes"):
    train_classifier.load_or_train(run)
