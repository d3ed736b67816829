"""A run opened for use."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from vae_jax.config import ConfigError
from vae_jax.latents import conditions, trained_model


@pytest.fixture(scope="module")
def model(reference):
  return trained_model.load(reference[0], chunk=5)


def test_load_opens_the_latest_checkpoint(model, reference):
  folder, state = reference
  assert model.step == int(state.step) == 20
  assert model.workdir == folder and model.image_shape == (16, 16, 1)
  assert_array_equal(
    model.variables["params"]["decoder"]["Dense_0"]["kernel"],
    state.params["decoder"]["Dense_0"]["kernel"],
  )


def test_load_refuses_folders_without_a_checkpoint(reference, tmp_path):
  with pytest.raises(ConfigError, match=r"There is no run in .*config.json"):
    trained_model.load(tmp_path)
  shutil.copy(reference[0] / "config.json", tmp_path)
  with pytest.raises(ConfigError, match="no readable checkpoint yet"):
    trained_model.load(tmp_path, checkpoint="best")


def test_chunks_change_no_bits(model):
  image = model.experiment.source("test").fetch(np.arange(12))["image"]
  codes = model.encode(image)
  assert codes.shape == (12, 3) and codes.dtype == np.float32
  assert_array_equal(codes[7:8], model.encode(image[7:8]))
  decoded = model.decode(codes)
  assert decoded.shape == image.shape and decoded.dtype == np.uint8
  assert_array_equal(decoded[11:], model.decode(codes[11:]))


def test_draw_depends_on_its_number_alone(model):
  samples = model.sample(8)
  again = model.draws(np.array([6, 1], np.int32))
  assert_array_equal(again, samples[[6, 1]])
  assert not np.array_equal(samples[1], samples[6])


def test_first_codes_are_those_of_the_first_images(model):
  source = model.experiment.source("test")
  codes, labels = model.first_codes(source, 7)
  data = source.fetch(np.arange(7))
  assert_array_equal(codes, model.encode(data["image"]))
  assert_array_equal(labels, data["label"])
  codes, _ = model.first_codes(source, 1000)
  assert len(codes) == len(source)


def test_labels_of_samples_follow_the_condition(model):
  config = model.config.copy_and_resolve_references()
  run = dataclasses.replace(model.experiment, config=config)
  source = model.experiment.source("test")
  assert conditions.of_samples(run, 4) is None
  with pytest.raises(ConfigError, match="label is 1, .* without labels"):
    conditions.of_samples(run, 4, 1)
  config.model.condition, config.data.num_labels = "label", 3
  assert conditions.of_samples(run, 5).tolist() == [0, 1, 2, 0, 1]
  assert conditions.of_samples(run, 2, "2").tolist() == [2, 2]
  config.model.condition = "attributes"
  labels = conditions.of_samples(run, len(source) + 1, source=source)
  assert_array_equal(labels[0], labels[-1])


def test_weights_of_another_config_are_named(reference, tmp_path):
  shutil.copytree(reference[0], tmp_path / "run")
  file = tmp_path / "run" / "config.json"
  text = file.read_text()
  file.write_text(text.replace('"latent_dim": 3', '"latent_dim": 7'))
  with pytest.raises(ConfigError) as caught:
    trained_model.load(tmp_path / "run")
  assert re.search(
    r"checkpoints/20 does not fit config.json: its decoder/Dense_0/kernel is "
    r"\(3, 16\), the config's is \(7, 16\)",
    str(caught.value),
  )
  # It is no damage of the checkpoint, which stays where it is.
  assert (tmp_path / "run" / "checkpoints" / "20").exists()
  file.write_text(text)
  assert trained_model.load(tmp_path / "run").step == 20
