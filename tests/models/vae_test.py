"""The model: labels reach both networks, and noise follows the keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from tests.support import linear_gaussian_vae as linear
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax import models, objectives
from vae_jax.data import datasets
from vae_jax.modes import evaluate, sample
from vae_jax.train import train
from vae_jax.training import build, restore, step

SHAPE = (4, 4, 1)


def _config(kind, **settings):
  c = tiny_config("", model__condition=kind, data__num_labels=3, **settings)
  c.data.image_shape = SHAPE
  return c


@pytest.fixture(scope="module")
def variables():
  return build.init_variables(_config("label"), SHAPE)


def _terms(config, variables, label):
  """Returns the terms of the same image and key with each label."""
  batch = linear.batch_of(np.full((len(label), *SHAPE), 100))
  key = jnp.repeat(batch.key[:1], len(label))
  batch = batch.replace(key=key, label=jnp.asarray(label))
  loss = objectives.from_config(config)
  vae = build.model(config, SHAPE, train=False)
  return step.forward(loss, vae, variables, batch)[0]


def test_one_hot_classes_are_attributes_with_one_bit(variables):
  by_class = _terms(_config("label"), variables, np.int32([0, 1, 2]))
  bits = _terms(_config("attributes"), variables, np.eye(3, dtype=np.uint8))
  for name in by_class:
    np.testing.assert_array_equal(by_class[name], bits[name])


def test_both_networks_read_the_label(variables):
  terms = _terms(_config("label"), variables, np.int32([0, 1, 1]))
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
    side_inputs = models.side_inputs(label=label)
    run = nn.apply(lambda vae: vae.decode((z,)).mean, vae)
    return run({**variables, **side_inputs})

  both = decode(z.reshape(6, 3))
  np.testing.assert_allclose(both[:3], decode(z[0]), rtol=1e-6)
  np.testing.assert_allclose(both[3:], decode(z[1]), rtol=1e-6)


@pytest.mark.parametrize(
  "feature, kind", [("attributes", "attributes"), ("factors/glasses", "label")]
)
def test_a_conditional_run_trains_and_samples(
  faces_dir, tmp_path, feature, kind
):
  c = tiny_config(
    faces_dir,
    data__label="" if kind == "attributes" else feature,
    model__condition=kind,
    train__num_steps=2,
  )
  train(c, str(tmp_path))
  saved = restore.load_config(str(tmp_path))
  splits = datasets.open_splits(saved.data)
  assert saved.data.num_labels == len(splits.label_names) > 1
  result = evaluate.evaluate(saved, str(tmp_path))
  assert np.isfinite(result["neg_elbo"])
  path = sample.run(saved, str(tmp_path))
  assert np.load(path.replace(".png", ".npz"))["images"].shape[0] == 100


@pytest.mark.parametrize("wanted", ["label", "attributes"])
def test_missing_labels_are_refused(faces_dir, tmp_path, wanted):
  c = tiny_config(
    faces_dir,
    data__label="factors/glasses" if wanted == "attributes" else "",
    model__condition=wanted,
  )
  with pytest.raises(config_lib.ConfigError, match="its labels are"):
    train(c, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_noise_follows_the_key_and_repeats_draw_by_draw():
  (params, _), batch = linear.exact_model(), linear.batch_of(2)
  vae = linear.VAE.clone(dequantize=True)
  z = jax.random.normal(jax.random.key(1), (4, 2))
  stacked = jnp.concatenate([batch.image] * 2)

  @jax.jit
  def decode(key):
    def run(vae):
      likelihood = vae.decode((z,))
      return likelihood.noise, likelihood.mean, likelihood.log_prob(stacked)

    return nn.apply(run, vae)({"params": params, **models.side_inputs(key=key)})

  noise, mean, log_prob = decode(batch.key)
  np.testing.assert_array_equal(noise[:2], noise[2:])
  assert len(np.unique(noise)) == noise.size / 2
  assert noise.min() >= 0 and noise.max() < 1
  x = (np.asarray(stacked) + np.asarray(noise)) / 256
  expected = scipy.stats.norm.logpdf(x, mean, linear.SIGMA).sum((1, 2, 3))
  np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
  np.testing.assert_array_equal(decode(batch.key)[0], noise)
  # An image's noise is of its own key alone, wherever it lies.
  np.testing.assert_array_equal(decode(batch.key[::-1])[0], noise[::-1])


def test_dequantized_pixels_without_keys_have_only_a_mean():
  variables = {"params": linear.exact_model()[0]}
  decode = lambda vae: vae.decode((jnp.zeros((1, 2)),))
  plain, noisy = (
    nn.apply(decode, linear.VAE.clone(dequantize=dequantize))(variables)
    for dequantize in (False, True)
  )
  np.testing.assert_array_equal(noisy.mean, plain.mean)
  with pytest.raises(ValueError, match=r"models\.side_inputs\(key=...\)"):
    noisy.log_prob(jnp.zeros((1, 2, 3, 1), jnp.uint8))


class HalfDecoder(nn.Module):
  """Returns bfloat16."""

  out_channels: int

  @nn.compact
  def __call__(self, z):
    x = nn.Dense(16 * self.out_channels)(z)
    return x.reshape(z.shape[0], 4, 4, -1).astype(jnp.bfloat16)


@pytest.mark.parametrize(
  "name", ["categorical256", "discretized_logistic", "bernoulli", "laplace"]
)
def test_densities_are_float32_whatever_a_decoder_returns(name):
  c = tiny_config("", model__likelihood__name=name)
  c.model.decoder.name = f"{__name__}.HalfDecoder"
  c.model.decoder.args = {}
  vae = build.model(c, (4, 4, 1), train=False)
  image = jnp.zeros((2, 4, 4, 1), jnp.uint8)

  def run(vae):
    likelihood = vae.decode((jnp.zeros((2, 3)),))
    return (
      likelihood.log_prob(image),
      likelihood.mean,
      likelihood.metrics(image),
    )

  shapes, _ = jax.eval_shape(nn.init_with_output(run, vae), jax.random.key(0))
  assert {leaf.dtype.name for leaf in jax.tree.leaves(shapes)} == {"float32"}
