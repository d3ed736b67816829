"""Runs on one's own pictures: from Python, from a folder, and few of them."""

import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from numpy.testing import assert_array_equal

import vae_jax
from tests.support import pictures, tfds
from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.config import ConfigError
from vae_jax.data import augment, datasets
from vae_jax.modes import arguments, evaluate
from vae_jax.runtime import devices, logs
from vae_jax.training import batch, experiment, loop, setup, writer

IMAGE = pictures.noise(40, 16, 16, 1)
LABEL = np.arange(40) % 3


def config(name="synthetic_faces", **settings):
  settings = {
    "train__num_steps": 4,
    "train__log_every_steps": 2,
    "train__validate_every_steps": 0,
    **settings,
  }
  c = tiny_config("", data__name=name, **settings)
  c.data.grayscale = False
  c.data.resize = 0
  return c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("run"))
  return folder, vae_jax.train(config(), folder, data=IMAGE)


def test_a_run_on_an_array_from_python_opens_and_resumes(run):
  folder, state = run
  model = vae_jax.load(folder)
  assert model.config.data.name.startswith("python:")
  codes = model.encode(IMAGE)
  assert codes.shape == (40, 3)
  assert model.decode(codes).shape == model.sample(40).shape
  with pytest.raises(ConfigError, match="given in Python; give them again"):
    model.experiment.splits.train.fetch(np.arange(1))
  labelled = vae_jax.load(folder, data={"image": IMAGE, "label": LABEL})
  train = labelled.experiment.splits.train
  code = labelled.encode(tfds.content(train)["image"])
  with_it, without = (code[(train.labels == 1) == on] for on in (True, False))
  found = labelled.direction(1, kind="mean")
  expected = with_it.mean(axis=0) - without.mean(axis=0)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
  # Finished, with the same data; other data are another run.
  again = vae_jax.train(config(), folder, data={"image": IMAGE})
  assert_trees_equal(state, again)
  with pytest.raises(ConfigError, match="config.data.digest: "):
    vae_jax.train(config(), folder, data=IMAGE[::-1])


def test_a_source_gives_the_bits_of_its_arrays(run, tmp_path):
  splits = datasets.open_splits(config().data, IMAGE)
  parts = {
    name: tfds.ArraySource(tfds.content(getattr(splits, name))["image"])
    for name in ("train", "validation", "test")
  }
  state = vae_jax.train(config(), str(tmp_path), data=parts)
  assert_trees_equal(state, run[1])


def test_six_pictures_train_and_do_not_validate_at_each_step(tmp_path):
  names = [f"cats/{i}.png" for i in range(6)]
  pictures.write(tmp_path / "mine", pictures.noise(6, 20, 18, 3), names)
  c = config(
    f"folder:{tmp_path}/mine",
    train__num_steps=6,
    train__log_every_steps=4,
    data__flip=True,
    data__shift=2,
  )
  c.data.resize = (16, 12)
  vae_jax.train(c, str(tmp_path / "run"))
  rows = writer.read_rows(str(tmp_path / "run"))
  steps = [row["step"] for row in rows if row["split"] == "validation"]
  assert steps == [4, 6]
  assert all(np.isfinite(row["loss"]) for row in rows)
  # A file is prepared as the images of the data set are.
  model = vae_jax.load(tmp_path / "run")
  assert model.image_shape == (16, 12, 3)
  assert tuple(model.config.data.stored_size) == (20, 18)
  chosen = arguments.images(model, f"{tmp_path}/mine/cats/*.png", "")
  found = [
    image.tobytes()
    for name in ("train", "validation", "test")
    for image in tfds.content(model.experiment.source(name))["image"]
  ]
  assert {image.tobytes() for image in chosen.image} == set(found)
  # On the page too.
  content = (tmp_path / "mine" / "cats" / "3.png").read_bytes()
  page = arguments.photo(model, content, "me.png")
  assert_array_equal(page.image, chosen.image[3:4])
  results = evaluate.evaluate(model.config, f"{tmp_path}/run")
  assert np.isfinite(results["neg_elbo"])
  # The same folder by another way to write its path is the same run.
  assert model.config.data.name == f"folder:{tmp_path}/mine"


def test_cadence_of_validation():
  def every(images, log, validate=0):
    splits = datasets.open_splits(config().data, IMAGE[:images])
    c = config(
      train__batch_size=8,
      train__log_every_steps=log,
      train__validate_every_steps=validate,
    )
    run = experiment.build(setup.resolve(c, splits), splits)
    return loop.plan(run).validate_every

  train = len(datasets.open_splits(config().data, IMAGE).train)
  assert every(40, 1) == round(train / 8)
  assert every(40, 100) == 100
  assert every(40, 100, 2) == 2


@pytest.mark.parametrize("given, expected", [(0, 3), (3, 3), (10, 10)])
def test_number_of_classes_is_counted_or_that_which_is_given(given, expected):
  c = config(model__condition="label", data__num_labels=given)
  splits = datasets.open_splits(c.data, {"image": IMAGE, "label": LABEL})
  resolved = setup.resolve(c, splits)
  assert resolved.data.num_labels == expected
  run = experiment.build(resolved, splits)
  assert len(run.source("train")) == len(splits.train)


@pytest.mark.parametrize(
  "label, settings, message",
  [
    (
      LABEL,
      {"data__num_labels": 2},
      r"label of example \d+ of python:\w+ is 2",
    ),
    (LABEL - 1, {}, r"is -1, but config.data.num_labels is 2"),
    (
      None,
      {"data__num_labels": 3, "model__condition": "none"},
      "num_labels is 3, but .* has no labels",
    ),
    (None, {}, "is 'label', but for .* there are no labels"),
    (np.eye(40, 2, dtype=int), {"data__num_labels": 3}, "has 2 attributes"),
  ],
)
def test_labels_that_do_not_fit_are_refused(label, settings, message, tmp_path):
  kind = "attributes" if np.ndim(label) == 2 else "label"
  c = config(**{"model__condition": kind, **settings})
  data = {"image": IMAGE} if label is None else {"image": IMAGE, "label": label}
  with pytest.raises(ConfigError, match=message):
    vae_jax.train(c, str(tmp_path), data=data)


def test_conditions_are_checked_in_python(tmp_path):
  data = {"image": IMAGE, "label": LABEL}
  c = config(model__condition="label", train__num_steps=1)
  vae_jax.train(c, str(tmp_path), data=data)
  model = vae_jax.load(tmp_path)
  assert model.encode(IMAGE, label=LABEL).shape == (40, 3)
  for label, message in (
    (None, r"need a label each, integers \[40\] from 0 to 2"),
    (LABEL + 1, r"number 2 is 3; it must be from 0 to 2"),
    (LABEL - 1, r"number 0 is -1"),
  ):
    with pytest.raises(ConfigError, match=message):
      model.encode(IMAGE, label=label)
    with pytest.raises(ConfigError, match=message):
      model.decode(np.zeros((40, 3), np.float32), label)


def test_binary_values_and_shifts_are_resolved_and_checked(tmp_path):
  splits = datasets.open_splits(config().data, IMAGE // 128)
  resolved = setup.resolve(config(), splits)
  assert tuple(resolved.data.range) == (0, 1)
  assert setup.resolve(resolved, splits) == resolved
  with pytest.raises(
    ConfigError, match="config.data.shift is 16; .* 16 pixels"
  ):
    setup.resolve(config(data__shift=16), splits)


def test_training_images_are_augmented_by_the_key_of_each():
  c = config(data__flip=True, data__shift=2)
  image = jnp.asarray(IMAGE[:16])
  data = {
    "image": image.reshape(8, 2, 16, 16, 1),
    "index": jnp.arange(16, dtype=jnp.int32).reshape(8, 2),
  }

  def run(part):
    place, step, seed = jnp.int32(0), jnp.int32(3), jnp.uint32(0)
    made, _ = batch.train_batch(c, part, place, step=step, seed=seed)
    return made.image, made.key

  found, key = jax.vmap(run, axis_name=devices.AXIS)(data)
  # However many devices there are.
  expected = augment.augment(image, key.reshape(16), flip=True, shift=2)
  assert_array_equal(found.reshape(image.shape), expected)
  assert (np.asarray(expected) != IMAGE[:16]).any((1, 2, 3)).sum() > 12


def test_evaluation_is_not_augmented(monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError("augmented")

  monkeypatch.setattr(augment, "augment", refuse)
  c = config(data__flip=True)
  data = {
    "image": jnp.asarray(IMAGE),
    "index": jnp.arange(40, dtype=jnp.int32),
    "mask": jnp.ones(40, bool),
  }
  assert_array_equal(batch.eval_batch(c, data, jnp.uint32(0)).image, IMAGE)


def test_messages_are_shown_in_a_session(monkeypatch):
  verbosity = logging.get_verbosity()
  monkeypatch.setattr(logs, "configure", configure := mock.Mock())
  try:
    logging.set_verbosity(logging.WARNING)
    logs.show_in_session()
    assert logging.get_verbosity() == logging.WARNING
    monkeypatch.setitem(sys.modules, "ipykernel", mock.Mock())
    logs.show_in_session()
    assert logging.get_verbosity() == logging.INFO
    configure.assert_called_once_with()
  finally:
    logging.set_verbosity(verbosity)
