"""A run that modes are tried on."""

import shutil

import pytest

from vae_jax.training import restore


@pytest.fixture(scope="session")
def run(reference, tmp_path_factory):
  """The config and the folder of a trained run that modes may write to."""
  folder = tmp_path_factory.mktemp("modes") / "run"
  shutil.copytree(reference[0], folder)
  return restore.load_config(folder), str(folder)
