"""The judge of edits: what it reads, how it learns, what it keeps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special

from tests.support import quick_classifier
from tests.support.tiny import assert_same, tiny_config
from vae_jax.config import ConfigError
from vae_jax.data.synthetic_faces import dataset
from vae_jax.evaluate import attribute_classifier as judge_lib
from vae_jax.evaluate import train_classifier
from vae_jax.training import experiment, setup

FACTORS = sorted(
  name
  for name, factor in dataset.FACTORS.items()
  if type(factor).__name__ == "Continuous"
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  quick_classifier.patch(monkeypatch)


@pytest.fixture(scope="module")
def trained(faces_dir, tmp_path_factory):
  """A config, its judge after a few steps, and where that lies."""
  folder = tmp_path_factory.mktemp("judges")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("VAE_JAX_CACHE_DIR", str(folder))
    quick_classifier.patch(patch, images=1600)
    c = tiny_config(faces_dir)
    run = setup.prepare(c)
    judge = train_classifier.judge_of(run)
    again = train_classifier.judge_of(run)
  return c, judge, again, folder


def test_it_is_trained_once_and_read_back(trained):
  _, judge, again, folder = trained
  assert len(list(folder.rglob("*.npz"))) == 1
  assert_same(judge.params, again.params)
  assert judge.names == again.names == dataset.ATTRIBUTES
  assert list(judge.factors) == FACTORS and judge.accuracy == again.accuracy
  np.testing.assert_array_equal(judge.quartiles, again.quartiles)


def test_factors_are_scaled_by_those_of_the_training_split(trained):
  _, judge, _, _ = trained
  true = np.array(
    [
      [dataset.sample_factors("train", i)[name] for name in FACTORS]
      for i in range(64)
    ]
  )
  np.testing.assert_allclose(
    judge.scale, [true.mean(0), true.std(0)], rtol=1e-5
  )
  np.testing.assert_allclose(
    judge.quartiles, np.percentile(true, [25, 50, 75], axis=0), rtol=1e-5
  )


def test_what_is_read_is_the_network_in_its_units(trained):
  _, judge, _, _ = trained
  image = np.random.RandomState(0).randint(0, 256, (5, 16, 16, 1), np.uint8)
  reading = judge.read(image)
  network = judge_lib.Network(len(judge.names) + len(judge.factors))
  features, outputs = map(
    np.asarray, jax.jit(network.apply)(judge.params, image / 255.0)
  )
  a = len(judge.names)
  np.testing.assert_allclose(
    reading.probability, special.expit(outputs[:, :a]), rtol=1e-4
  )
  np.testing.assert_allclose(
    reading.factor,
    outputs[:, a:] * judge.scale[1] + judge.scale[0],
    rtol=1e-3,
    atol=1e-4,
  )
  np.testing.assert_allclose(reading.features, features, rtol=1e-3, atol=1e-5)


def test_classes_share_one_probability(faces_dir, monkeypatch, tmp_path):
  monkeypatch.setenv("VAE_JAX_CACHE_DIR", str(tmp_path))
  c = tiny_config(faces_dir, data__label="factors/hair_style")
  judge = train_classifier.judge_of(setup.prepare(c))
  assert judge.classes and judge.names[0] == "bald"
  image = np.random.RandomState(0).randint(0, 256, (3, 16, 16, 1), np.uint8)
  made = judge.read(image).probability
  np.testing.assert_allclose(made.sum(axis=1), 1, rtol=1e-5)
  assert set(judge.accuracy) == {*judge.names, *FACTORS}


def test_it_learns(trained):
  # Chance is 0; the brightness behind a face is easy to see.
  assert trained[1].accuracy["background_light"] > 0.3


def test_blur_is_the_binomial_filter():
  image = np.random.RandomState(0).rand(2, 9, 7, 3).astype(np.float32)
  weights = np.array([1, 4, 6, 4, 1]) / 16
  wanted = ndimage.convolve1d(image, weights, axis=1, mode="nearest")
  wanted = ndimage.convolve1d(wanted, weights, axis=2, mode="nearest")
  np.testing.assert_allclose(
    train_classifier._blurred(jnp.asarray(image)), wanted, atol=1e-6
  )


def test_worse_images_are_between_sharp_and_blurred():
  image = np.random.RandomState(0).randint(0, 256, (64, 16, 16, 1), np.uint8)
  made = np.asarray(
    train_classifier._worsened(jnp.asarray(image), jax.random.key(0))
  )
  sharp = image / 255.0
  blurred = np.asarray(
    train_classifier._blurred(jnp.asarray(sharp, jnp.float32))
  )
  spread = made.std(axis=(1, 2, 3))
  # Some stay sharp, some are blurred more than once, and none alike.
  assert (spread > 0.9 * sharp.std()).any()
  assert (spread < 0.9 * blurred.std()).any()
  assert len(np.unique(spread.round(4))) > 50


def test_no_attributes_are_said(faces_dir):
  run = setup.prepare(tiny_config(faces_dir))
  splits = dataclasses.replace(run.splits, label_names=None)
  run = experiment.build(run.config, splits)
  with pytest.raises(ConfigError, match="no attributes and no classes"):
    train_classifier.judge_of(run)
