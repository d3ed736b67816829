"""Models and runs that modes are tried on."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from tests.support.tiny import tiny_config
from vae_jax import modes
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.training import build, experiment, restore

SHAPE = (16, 16, 1)


@pytest.fixture(scope="session")
def run(reference, tmp_path_factory):
  """The config and the folder of a trained run that modes may write to."""
  folder = tmp_path_factory.mktemp("modes") / "run"
  shutil.copytree(reference[0], folder)
  return restore.load_config(folder), str(folder)


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


@pytest.fixture
def draw():
  """Returns a function that runs a mode that draws, and returns its text and
  its arrays."""

  def draw(mode, model, **flags):
    folder = model.workdir / "figures"
    text = modes.find(mode).run(model.config, str(model.workdir), flags)
    for line in text.splitlines()[text.startswith("Mean") :]:
      path = pathlib.Path(line)
      assert path.exists() and folder in path.parents
    name = "samples" if mode == "sample" else mode
    return text, dict(np.load(folder / f"{name}.npz"))

  return draw


@pytest.fixture
def refusal(draw):
  """Returns a function that runs a mode that must refuse its flags, before it
  writes anything, and returns the message."""

  def refusal(mode, model, **flags):
    with pytest.raises(ConfigError) as caught:
      draw(mode, model, **flags)
    assert "\n" not in str(caught.value)
    assert not (model.workdir / "figures").exists()
    return str(caught.value)

  return refusal


@pytest.fixture
def fetch():
  """Returns a function that reads images of the test split."""

  def fetch(model, *index):
    return model.experiment.source("test").fetch(np.array(index))

  return fetch


@pytest.fixture
def conditional():
  """Settings of a model that is conditioned on a class."""
  return {
    "model__condition": "label",
    "data__label": "attributes/Smiling",
    "data__num_labels": 2,
  }
