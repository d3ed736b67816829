"""Building a model and its initial variables from a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support import tfds
from tests.support.tiny import tiny_config
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.models import likelihoods
from vae_jax.train import train
from vae_jax.training import build, init_from_data, setup

SOURCE = tfds.ArraySource(
  np.random.default_rng(4).integers(0, 256, (30, 4, 5, 3)).astype(np.uint8)
  * (np.arange(5) > 0)[None, None, :, None].astype(np.uint8)
)


def _config(**settings):
  c = tiny_config("", data__image_shape=SOURCE.image_shape, **settings)
  c.data.grayscale = False
  return c


def _zeros(config, shape):
  """Returns zeros of the structure of the variables, without compiling."""
  shapes = jax.eval_shape(lambda: build.init_variables(config, shape))
  return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)


def _vae(config):
  return build.model(config, tuple(config.data.image_shape), train=False)


def _vamp_config(**args):
  return _config(
    model__prior__name="vamp", model__prior__args={"num_components": 3} | args
  )


@pytest.fixture(scope="module")
def from_data():
  """Returns a config that starts from images, and its plain variables."""
  c = _vamp_config(initial="data")
  c.model.output_bias = "data"
  assert init_from_data.is_needed(c)
  return c, _zeros(c, SOURCE.image_shape)


def test_pseudo_inputs_start_at_chosen_images(from_data):
  c, before = from_data
  chosen = []
  for seed in (0, 0, 1):
    c = c.copy_and_resolve_references()
    c.seed = seed
    after = init_from_data.apply(c, _vae(c), before, SOURCE)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    pixels = after["params"]["latent_prior"]["pseudo_inputs"]
    found = [
      np.flatnonzero((SOURCE.image == image).all((1, 2, 3)))
      for image in np.round(np.asarray(pixels) * 255)
    ]
    chosen.append(np.concatenate(found))
  assert len(set(chosen[0])) == 3
  np.testing.assert_array_equal(chosen[0], chosen[1])
  assert list(chosen[0]) != list(chosen[2])


def test_the_decoder_starts_at_the_mean_image(from_data):
  c, before = from_data
  # Several chunks, the last one shorter.
  after = init_from_data.apply(c, _vae(c), before, SOURCE, chunk_bytes=7 * 60)
  vae = _vae(c)
  # Without latents there is only the bias.
  code = (jnp.zeros((1, 3)),)
  mean = nn.apply(lambda v: v.decode(code).mean[0], vae)(after)
  expected = np.clip(SOURCE.image.mean(0) / 255, 0.001, 0.999)
  np.testing.assert_allclose(mean, expected, rtol=1e-5)
  assert (expected == 0.001).any()
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
  # The bias and the pseudo-inputs.
  assert sum(not leaf for leaf in jax.tree.leaves(same)) == 2


def test_initial_variables_read_no_data_by_default():
  assert not init_from_data.is_needed(_config())
  assert not init_from_data.is_needed(_vamp_config())


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"model__prior__args": {"initial": "mean"}}, "allowed are random, data"),
    ({"model__prior__args": {"num_components": 0}}, "num_components is 0"),
    ({"model__posterior__name": "iaf"}, "to be diagonal_normal"),
    (
      {"model__condition": "label", "data__num_labels": 2},
      "pseudo-inputs of the prior vamp have no labels",
    ),
    (
      {"model__encoder": {"name": "conv", "args": {"channels": (2,)}}},
      "without batch norm",
    ),
  ],
)
def test_impossible_vamp_priors_are_refused(settings, message):
  c = _config(model__prior__name="vamp", **settings)
  with pytest.raises(ConfigError, match=message):
    jax.eval_shape(lambda: build.init_variables(c, SOURCE.image_shape))


def test_more_pseudo_inputs_than_images_are_refused():
  c = _vamp_config(initial="data", num_components=31)
  with pytest.raises(ConfigError, match="is 31, but there are only 30"):
    init_from_data.check(c, _vae(c), SOURCE)


@pytest.mark.parametrize(
  "settings",
  [
    {"model__decoder__name": "conv", "model__decoder__args": {}},
    {"model__likelihood__name": f"{__name__}.TwoPerPixel"},
    # Its mean is not the sigmoid of its output.
    {"model__likelihood__name": "continuous_bernoulli"},
  ],
)
def test_an_impossible_output_bias_is_refused(settings):
  c = _config(model__output_bias="data", **settings)
  with pytest.raises(ConfigError, match="needs the decoder mlp"):
    build.model(c, SOURCE.image_shape, train=False)


class TwoPerPixel(likelihoods.Bernoulli):
  """Reads two outputs for each channel."""

  def num_outputs(self, channels):
    return 2 * channels


def test_a_run_starts_with_everything_from_data(faces_dir, tmp_path):
  c = tiny_config(
    faces_dir,
    train__num_steps=3,
    model__output_bias="data",
    model__prior__name="vamp",
    model__prior__args={"num_components": 5, "initial": "data"},
  )
  c.model.prior.args.learned = False
  splits = datasets.open_splits(c.data)
  state = train(c, str(tmp_path))
  c = setup.resolve(c, splits)
  before = _zeros(c, splits.image_shape)
  after = init_from_data.apply(c, _vae(c), before, splits.train)
  # As they were after three steps, being no parameters.
  fixed, expected = (
    v["fixed"]["latent_prior"]["pseudo_inputs"]
    for v in (state.model_state, after)
  )
  np.testing.assert_array_equal(fixed, expected)
  assert np.ptp(expected) > 0.5
  bias, start = (
    v["decoder"]["Dense_1"]["bias"] for v in (state.params, after["params"])
  )
  assert np.abs(bias - start).max() < 0.01 < 0.1 < np.abs(bias).max()


class PlainNet(nn.Module):
  """A network without settings."""

  def __call__(self, x):
    return x


def test_networks_that_cannot_recompute_are_named():
  c = tiny_config("", model__remat=True)
  for node in (c.model.encoder, c.model.decoder):
    node.name, node.args = f"{__name__}.PlainNet", {}
  with pytest.raises(ConfigError, match="config.model.remat is True"):
    build.model(c, (16, 16, 1), train=True)
  c.model.remat = False
  build.model(c, (16, 16, 1), train=True)
