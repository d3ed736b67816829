"""The package's public names: `train`, `load`, `parameter_count`."""

import importlib.metadata
import runpy
import sys

import numpy as np
import pytest

import vae_jax
from tests.support import programs, tiny
from vae_jax.config import ConfigError


def test_import_loads_no_jax():
  code = "import sys, vae_jax; print('jax' in sys.modules, vae_jax.__version__)"
  output = programs.python("-c", code).stdout
  assert output.split() == ["False", vae_jax.__version__]
  assert vae_jax.__version__ == importlib.metadata.version("vae_jax")


def test_import_elsewhere_says_where_it_runs(monkeypatch):
  monkeypatch.setattr(sys, "platform", "win32")
  with pytest.raises(ImportError, match="Linux and macOS, not on win32.* WSL"):
    runpy.run_path(vae_jax.__file__)


def test_start_of_a_run_waits_for_no_library_that_it_does_not_need():
  modules = "vae_jax.train, vae_jax.modes.evaluate"
  code = f"import sys, {modules}; print(*sys.modules)"
  loaded = set(programs.python("-c", code).stdout.split())
  assert "jax" in loaded
  assert not loaded & {"matplotlib", "pandas", "scipy.stats", "sklearn"}


def test_public_names_are_functions_whatever_is_imported_first():
  import vae_jax.train

  assert callable(vae_jax.train) and vae_jax.train.__name__ == "train"
  assert set(vae_jax.__all__) <= set(dir(vae_jax))


def test_trained_model_is_loaded_in_one_line(reference):
  workdir, state = reference
  model = vae_jax.load(workdir)
  assert model.step == int(state.step)
  image = np.zeros((2, 16, 16, 1), np.uint8)
  assert model.encode(image).shape == (2, 3)


def test_load_refuses_a_folder_without_a_run(tmp_path):
  with pytest.raises(ConfigError, match=str(tmp_path)):
    vae_jax.load(tmp_path)


def test_parameter_count_is_a_sum_of_layers(faces_dir):
  # 256 pixels, 16 hidden units, 3 latents.
  encoder = 257 * 16 + 17 * 6
  decoder = 4 * 16 + 17 * 256
  config = tiny.tiny_config(faces_dir)
  assert vae_jax.parameter_count(config) == encoder + decoder
