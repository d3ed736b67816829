"""Settings that the data set decides."""

import pytest

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.data import datasets
from vae_jax.objectives import elbo
from vae_jax.training import experiment, setup


def test_resolve_sets_the_number_of_training_images(faces_dir):
  c = tiny_config(faces_dir, objective__name="beta_tcvae")
  splits = datasets.open_splits(c.data)
  resolved = setup.resolve(c, splits)
  args = {"dataset_size": len(splits.train)}
  assert resolved.objective.args.to_dict() == args
  setup.check(experiment.build(resolved, splits))
  assert setup.resolve(resolved, splits) == resolved
  again = config_lib.from_json(config_lib.to_json(resolved))
  assert again.objective.args.to_dict() == args
  assert c.objective.args.to_dict() == {}
  for given, size in ((7, 7), (0, len(splits.train))):
    c.objective.args.dataset_size = given
    assert setup.resolve(c, splits).objective.args.dataset_size == size


def test_resolve_leaves_other_objectives_unchanged(faces_dir):
  c = tiny_config(faces_dir)
  splits = datasets.open_splits(c.data)
  assert setup.resolve(c, splits).objective.args.to_dict() == {}
  c.objective.name = "elbow"
  with pytest.raises(config_lib.ConfigError, match="Did you mean elbo"):
    setup.resolve(c, splits)


def replaces_the_loss(vae, batch):
  terms = elbo.elbo(vae, batch)
  return terms.replace(extras={"loss": 0 * terms.loss})


def test_prepare_refuses_extras_with_the_name_of_a_term(faces_dir):
  """Before anything is compiled: `prepare` traces the objective only."""
  c = tiny_config(faces_dir, objective__name=f"{__name__}.replaces_the_loss")
  with pytest.raises(config_lib.ConfigError, match="extras named loss; allo"):
    setup.prepare(c)
