"""A run builds its model, objective, optimizer and data set once."""

import collections
import functools

import pytest

from tests.support.tiny import tiny_config
from vae_jax import objectives
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.latents import trained_model
from vae_jax.modes import evaluate
from vae_jax.train import train
from vae_jax.training import build, optim, restore, setup


@pytest.fixture
def calls(monkeypatch):
  """Counts the calls of the functions that build from a config."""
  counts = collections.Counter()

  def counted(module, name):
    function = getattr(module, name)

    @functools.wraps(function)
    def call(*args, **kwargs):
      counts[name, kwargs.get("train")] += 1
      return function(*args, **kwargs)

    monkeypatch.setattr(module, name, call)

  counted(build, "model")
  counted(objectives, "from_config")
  counted(optim, "optimizer")
  counted(datasets, "open_splits")
  return counts


EACH_ONCE = {("model", True): 1, ("model", False): 1}
EACH_ONCE |= {
  (name, None): 1 for name in ("from_config", "optimizer", "open_splits")
}


def test_train_and_evaluate_build_everything_once(calls, faces_dir, tmp_path):
  workdir = str(tmp_path)
  config = tiny_config(
    faces_dir, train__num_steps=5, train__validate_every_steps=2
  )
  config.model.latent_dim = 2
  train(config, workdir)
  assert calls == EACH_ONCE

  calls.clear()
  config = restore.load_config(workdir)
  config.eval.importance_samples = 2
  result = evaluate.evaluate(config, workdir)
  assert "active_units" in result and "nll" in result
  assert calls == EACH_ONCE


def test_opened_run_needs_no_data_set(calls, reference, faces_dir):
  folder, _ = reference
  config = restore.load_config(folder)
  config.data.dir = "/nowhere"
  config.train.num_steps, config.train.num_epochs = 0, 1.0
  model = trained_model.open_run(config, str(folder))
  assert model.sample(2).shape == (2, 16, 16, 1)
  assert ("open_splits", None) not in calls
  assert model.experiment.num_steps is None
  with pytest.raises(ConfigError, match="/nowhere"):
    model.experiment.source("test")


def test_steps_of_epochs_are_counted_from_the_training_split(faces_dir):
  for epochs in (2.5, 1e-3):
    config = tiny_config(faces_dir, train__num_steps=0)
    config.train.num_epochs = epochs
    run = setup.prepare(config)
    steps = round(epochs * len(run.splits.train)) // 16
    assert run.num_steps == max(1, steps)
