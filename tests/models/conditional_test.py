"""Conditional models: the label reaches both networks, and only theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax import models, objectives, train
from vae_jax.data import datasets
from vae_jax.data.batch import Batch
from vae_jax.modes import evaluate, sample
from vae_jax.training import build, step

SHAPE = (4, 4, 1)


def _config(kind, **settings):
  c = tiny_config("", model__condition=kind, data__num_labels=3, **settings)
  c.data.image_shape = SHAPE
  return c


def _batch(label):
  count = len(label)
  return Batch(
    image=jnp.full((count, *SHAPE), 100, jnp.uint8),
    index=jnp.arange(count, dtype=jnp.int32),
    mask=jnp.ones((count,), bool),
    key=jnp.repeat(jax.random.key(0)[None], count),
    label=jnp.asarray(label),
  )


@pytest.fixture(scope="module")
def variables():
  return build.init_variables(_config("label"), SHAPE)


def _terms(config, variables, label):
  return step.forward(
    objectives.from_config(config),
    build.model(config, SHAPE, train=False),
    variables,
    _batch(label),
  )[0]


def test_one_hot_classes_are_attributes_with_one_bit(variables):
  by_class = _terms(_config("label"), variables, np.int32([0, 1, 2]))
  bits = _terms(_config("attributes"), variables, np.eye(3, dtype=np.uint8))
  for name in by_class:
    np.testing.assert_array_equal(by_class[name], bits[name])


def test_both_networks_read_the_label(variables):
  terms = _terms(_config("label"), variables, np.int32([0, 1, 1]))
  # The same image and key: apart by the label alone.
  for name in ("rate", "distortion"):
    first, second, again = np.asarray(terms[name])
    assert abs(first - second) > 1e-4
    assert second == again
  # The image channels of the encoder and the latents of the decoder come
  # first, as in a model without labels.
  params = variables["params"]
  assert params["encoder"]["Dense_0"]["kernel"].shape[0] == 16 * (1 + 3)
  assert params["decoder"]["Dense_0"]["kernel"].shape[0] == 3 + 3


def test_draws_stacked_draw_by_draw_keep_their_labels(variables):
  vae = build.model(_config("label"), SHAPE, train=False)
  label = jnp.int32([0, 1, 2])
  z = jax.random.normal(jax.random.key(1), (2, 3, 3))

  def decode(z):
    given = models.given(label=label)
    run = nn.apply(lambda vae: vae.decode((z,)).mean, vae)
    return run({**variables, **given})

  both = decode(z.reshape(6, 3))
  np.testing.assert_allclose(both[:3], decode(z[0]), rtol=1e-6)
  np.testing.assert_allclose(both[3:], decode(z[1]), rtol=1e-6)


@pytest.mark.parametrize(
  "feature, kind", [("attributes", "attributes"), ("factors/glasses", "label")]
)
def test_a_conditional_run(faces_dir, tmp_path, feature, kind):
  c = tiny_config(
    faces_dir,
    data__label="" if kind == "attributes" else feature,
    model__condition=kind,
    train__num_steps=2,
  )
  train.train(c, str(tmp_path))
  from vae_jax.training import restore

  saved = restore.load_config(str(tmp_path))
  splits = datasets.open_splits(saved.data)
  assert saved.data.num_labels == len(splits.label_names) > 1
  result = evaluate.evaluate(saved, str(tmp_path))
  assert np.isfinite(result["neg_elbo"])
  path = sample.run(saved, str(tmp_path))
  assert np.load(path.replace(".png", ".npz"))["images"].shape[0] == 100


@pytest.mark.parametrize("wanted", ["label", "attributes"])
def test_labels_that_are_not_there(faces_dir, tmp_path, wanted):
  c = tiny_config(
    faces_dir,
    data__label="factors/glasses" if wanted == "attributes" else "",
    model__condition=wanted,
  )
  with pytest.raises(config_lib.ConfigError, match="its labels are"):
    train.train(c, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
