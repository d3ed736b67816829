"""Pictures of a run: what they show is what the model computes."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vae_jax import figures
from vae_jax.evaluate import summaries
from vae_jax.latents import apply, trained_model
from vae_jax.training import restore


@pytest.fixture(scope="module")
def model(reference):
  config = restore.load_config(reference[0])
  return trained_model.open_run(config, str(reference[0]))


def test_samples_are_draws_of_the_seed(model, tmp_path):
  path = tmp_path / "samples.png"
  picture = summaries.samples(model, model.experiment.source("test"), path)
  images = model.draws(np.arange(100, dtype=np.int32))
  assert images.shape == (100, 16, 16, 1) and images.dtype == np.uint8
  title = "draws from the prior, temperature 1"
  assert_array_equal(picture, figures.image_grid(images, title=title))
  assert path.exists()
  index = np.arange(10, dtype=np.int32)
  ten = np.asarray(apply.sample(model.vae, model.variables, index, 0, 1.0))
  assert_allclose(ten, images[:10].astype(int), atol=1)
  other = np.asarray(apply.sample(model.vae, model.variables, index, 1, 1.0))
  assert not np.array_equal(ten, other)


def test_reconstructions_are_decoded_codes(model, tmp_path):
  source = model.experiment.source("test")
  path = tmp_path / "reconstructions.png"
  picture = summaries.reconstructions(model, source, path)
  image = source.fetch(np.arange(30))["image"]
  codes = apply.encode(model.vae, model.variables, image)
  decoded = np.asarray(apply.decode(model.vae, model.variables, codes))
  expected = figures.reconstruction_grid(image, decoded, columns=15)
  assert_allclose(picture, expected.astype(int), atol=1)
  assert path.exists()


def test_autoencoders_end_with_samples_from_a_mixture(
  model, tmp_path, monkeypatch
):
  drawn = []
  monkeypatch.setattr(
    summaries,
    "samples",
    lambda model, source, path, density: drawn.append((path, density)),
  )
  source = model.experiment.source("test")
  config = model.config.copy_and_resolve_references()
  for name in ("elbo", "rae"):
    config.objective.name = name
    run = dataclasses.replace(model.experiment, config=config)
    own = dataclasses.replace(model, experiment=run, workdir=tmp_path)
    summaries.at_the_end(own, source)
  # Of the second alone.
  assert drawn == [(tmp_path / "figures" / "samples.png", "gaussian_mixture")]
