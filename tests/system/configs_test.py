"""Every shipped config trains; every setting is read by some run."""

import importlib
import json
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.config import check
from vae_jax.data import datasets
from vae_jax.modes import evaluate, sample
from vae_jax.runtime import devices, job
from vae_jax.train import train
from vae_jax.training import build, optim, restore
from vae_jax.training import writer as writer_lib

FOLDER = pathlib.Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py"))


def load(name):
  return importlib.import_module(f"configs.{name}")


def _shrink(config, faces_dir):
  """Returns a config on the tiny faces, at its own image size."""
  height, _, channels = config.data.image_shape
  for key in ("train_split", "validation_split", "test_split", "label"):
    config.data[key] = ""
  small = dict(name="synthetic_faces/tiny", dir=str(faces_dir), cache="none")
  config.data.update(small, crop=0, resize=height, grayscale=channels == 1)
  short = dict(num_epochs=0.0, num_steps=2, steps_per_call=2)
  config.train.update(short, compilation_cache_dir="none")
  config.train.batch_size = 8 * config.train.accumulate
  config.eval.batch_size = 16
  for node in (config.model.encoder, config.model.decoder):
    if node.name in ("conv", "resnet"):
      node.args.channels = (4, 8)
  return config


# Slow, because their images are large; each has a faster counterpart.
_SLOW = ["celeba", "lecture_mnist", "lecture_celeba", "lecture_celeba_upsample"]
_SLOW += ["lecture_mnist_autoencoder"]


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=[pytest.mark.slow] * (n in _SLOW)) for n in CONFIGS],
)
def test_config_trains_two_steps(name, faces_dir, tmp_path):
  config = _shrink(load(name).get_config(), faces_dir)
  state = train(config, str(tmp_path))
  assert int(state.step) == 2 and int(state.skipped) == 0
  for leaf in jax.tree.leaves(state.params):
    assert np.isfinite(leaf).all()
  rows = writer_lib.read_rows(tmp_path)
  assert {r["split"] for r in rows} == {"train", "validation"}
  figures = {p.stem: p.stat() for p in (tmp_path / "figures").glob("*.png")}
  for figure in ("curves", "reconstructions", "samples"):
    assert figures[figure].st_size > 1000
  for figure in ("latents", "manifold"):
    assert (figure in figures) == (config.model.latent_dim == 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_docstring_has_command_hardware_time_and_number(name):
  text = load(name).__doc__
  assert f"python -m vae_jax.main --config=configs/{name}.py" in text
  for word in ("Hardware:", "Time:", "Expect:"):
    assert word in text


def test_compact_faces_are_those_of_the_table():
  get_config = load("faces").get_config
  full, compact = map(get_config, ("full", "compact"))
  assert compact.model.latent_dim == 32
  assert compact.optim.optimizer.name == "adam"
  assert compact.model.likelihood.args.sigma == 0.4
  assert full.optim.optimizer.name == "muon"
  for c in (full, compact):
    check.validate(c)
  with pytest.raises(config_lib.ConfigError, match="'small'.*full, compact"):
    get_config("small")


@pytest.mark.parametrize(
  "variant, epochs, second",
  [("full", 3280, 10 ** (-3 - 1 / 7)), ("short", 13, 10**-3.5)],
)
def test_variants_follow_the_iwae_paper(variant, epochs, second):
  c = load("iwae_mnist").get_config(variant)
  check.validate(c)
  assert c.train.num_epochs == epochs
  per_epoch = 59_600 // c.train.batch_size
  rate = optim.learning_rate(c, epochs * per_epoch)
  # Stages of one epoch, of three, and so on to the last.
  steps = [e * per_epoch + 10 for e in (0, 1, 3, epochs - 1)]
  np.testing.assert_allclose(
    [rate(s) for s in steps], [1e-3, second, second, 1e-4], rtol=1e-5
  )


@pytest.mark.parametrize(
  "name, count",
  [
    ("lecture_mnist", 207_237),
    ("lecture_mnist_autoencoder", 200_963),
    ("lecture_celeba", 2_649_075),
    ("lecture_celeba_upsample", 2_649_075),
    ("iwae_mnist", 425_284),
    ("mnist", 785 * 400 + 401 * 40 + 21 * 400 + 401 * 784),
  ],
)
def test_config_has_the_parameters_of_its_table(name, count):
  c = load(name).get_config()
  c.data.dir = "/nowhere"  # They are counted without data.
  assert build.parameter_count(c) == count


def test_every_setting_is_read(faces_dir, tmp_path, monkeypatch):
  read = set()
  original = ConfigDict.__getitem__
  paths = {}

  def recording(self, key):
    value = original(self, key)
    path = paths.get(id(self), "") + key
    if isinstance(value, ConfigDict):
      paths[id(value)] = path + "."
    else:
      read.add(path)
    return value

  settings = dict(optim__ema_decay=0.5, data__cache="host")
  settings |= dict(train__num_steps=0, train__num_epochs=1.0)
  config = tiny_config(faces_dir, **settings)
  leaves = set(config_lib.flatten(config_lib.default()))

  def unrecorded(function):
    def run(*args):
      with monkeypatch.context() as patch:
        patch.setattr(ConfigDict, "__getitem__", original)
        return function(*args)

    return run

  # Reading all of a config to check, store or compare it is no use of it.
  names = "default from_json check_path override_for_use to_json differences "
  names += "flatten get"
  for module, name in (
    *((config_lib, name) for name in names.split()),
    (check, "validate"),
  ):
    monkeypatch.setattr(module, name, unrecorded(getattr(module, name)))
  monkeypatch.setattr(ConfigDict, "__getitem__", recording)
  train(config, str(tmp_path))
  saved = restore.load_config(str(tmp_path))
  saved.eval.fidelity = True
  saved.eval.features.name = "encoder"
  saved.eval.features.args.workdir = str(tmp_path)
  evaluate.evaluate(saved, str(tmp_path))
  sample.run(saved, str(tmp_path))
  devices.initialize(config.train.compilation_cache_dir)
  monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: None)
  job.start(config)
  job.finish()
  # Settings of conditional models and of losses with their own network.
  config.model.condition = "label"
  config.data.num_labels = 3
  config.objective.name = "tests.support.tiny.needy_loss"
  optim.optimizer(config, 1)
  build.model(config, (16, 16, 1), train=True)
  # Only this data set can be made from files that were fetched by hand.
  config.data.name = "celeb_a"
  config.data.manual_dir = str(tmp_path / "nowhere")
  with pytest.raises(config_lib.ConfigError, match="nowhere"):
    datasets.open_splits(config.data)
  assert json.loads((tmp_path / "eval" / "test.json").read_text())
  assert leaves - read == set()
