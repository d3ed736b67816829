"""Learned priors: densities by brute force, and what starts from images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import linen as nn
from jax import flatten_util

from tests import exact_model
from tests.helpers import tiny_config
from vae_jax import build, distributions, latents, startup, train
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.models import likelihoods, priors
from vae_jax.objectives import elbo, terms

KEYS = jax.random.split(jax.random.key(3), 20_000)
VAMP = exact_model.VAE.clone(
  latent_prior=priors.vamp((2, 3), 1, num_components=4)
)


@jax.jit
def _sample(p, key, temperature):
  return p.sample(key, temperature)


def _mixture():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  return distributions.NormalMixture(draw(3, 2), draw(3, 2), draw(3))


def _vamp_params():
  params, _ = exact_model.exact_model()
  shape = (4, *exact_model.SHAPE)
  # Some pixels are outside of [0, 1].
  pixels = np.random.default_rng(2).uniform(-0.3, 1.3, shape)
  pseudo_inputs = jnp.asarray(pixels, jnp.float32)
  return params | {"latent_prior": {"pseudo_inputs": pseudo_inputs}}


def _images(count):
  rng = np.random.default_rng(1)
  return rng.integers(0, 256, (count, *exact_model.SHAPE))


def test_mixture_log_prob_is_a_loop_over_components():
  p = _mixture()
  z = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
  weight = scipy.special.softmax(np.asarray(p.logits, np.float64))
  sigma = np.exp(np.asarray(p.log_variance, np.float64) / 2)
  each = [
    np.log(weight[k]) + scipy.stats.norm.logpdf(z, p.mean[k], sigma[k]).sum(1)
    for k in range(3)
  ]
  expected = scipy.special.logsumexp(each, axis=0)
  np.testing.assert_allclose(p.log_prob(jnp.asarray(z)), expected, rtol=1e-5)


def test_narrow_components_are_exact():
  p = distributions.NormalMixture(
    jnp.full((1, 2), 30.0), jnp.full((1, 2), -12.0), jnp.zeros(1)
  )
  sigma = np.exp(-6)
  z = jnp.float32(30) + jnp.full((1, 2), 2**-10, jnp.float32)
  expected = 2 * scipy.stats.norm.logpdf(2**-10, scale=sigma)
  np.testing.assert_allclose(p.log_prob(z), [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_mixture_samples_have_its_moments(temperature):
  p = _mixture()
  z = np.asarray(_sample(p, KEYS, temperature), np.float64)
  weight = scipy.special.softmax(np.asarray(p.logits, np.float64))[:, None]
  mean = (weight * p.mean).sum(0)
  inside = temperature**2 * np.exp(p.log_variance)
  variance = (weight * (inside + p.mean**2)).sum(0) - mean**2
  error = 5 * np.sqrt(variance / len(z))
  assert (np.abs(z.mean(0) - mean) < error).all()
  np.testing.assert_allclose(z.var(0), variance, rtol=0.06)


def test_sampled_rate_against_the_closed_form():
  prior = priors.gaussian_mixture(2, num_components=1, spread=0.0)
  normal = distributions.Groups((distributions.StandardNormal(2),))

  @jax.jit
  def run(key):
    p, _ = prior.init_with_output(jax.random.key(0), lambda image: image)
    mean, log_variance = jnp.array([[0.5, -1.0]]), jnp.array([[-1.0, 0.3]])
    wide = lambda v: jnp.tile(v, (len(key), 1))  # noqa: E731
    q = distributions.DiagonalNormal(wide(mean), wide(log_variance))
    assert not q.has_kl(p)
    q, p = distributions.Groups((q,)), distributions.Groups((p,))
    z, log_q = q.sample_and_log_prob(key)
    return terms.rate(q, p, z, log_q, kl="auto"), q.kl(normal)[0]

  rate, exact = run(KEYS)
  rate = np.asarray(rate, np.float64)
  assert abs(rate.mean() - exact) < 5 * rate.std() / np.sqrt(len(KEYS))


def test_gaussian_mixture_starts_spread_out():
  prior = priors.gaussian_mixture(3, num_components=400, spread=2.0)
  p, _ = prior.init_with_output(jax.random.key(0), lambda image: image)
  np.testing.assert_allclose(np.std(p.mean), 2.0, rtol=0.1)
  assert not np.any(p.log_variance) and not np.any(p.logits)


def _components(params):
  """Mean and log variance of q(z | u_k), one after another."""
  head = jax.tree.map(np.asarray, params["posterior"]["Dense_0"])
  u = np.clip(params["latent_prior"]["pseudo_inputs"], 0, 1).reshape(4, -1)
  return np.split(u @ head["kernel"] + head["bias"], 2, axis=1)


def test_vamp_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
  params = _vamp_params()
  z = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
  run = nn.apply(lambda v: v.prior().log_prob((jnp.asarray(z),)), VAMP)
  mean, log_variance = _components(params)
  each = [
    scipy.stats.norm.logpdf(z, mean[k], np.exp(log_variance[k] / 2)).sum(1)
    for k in range(4)
  ]
  expected = scipy.special.logsumexp(each, axis=0) - np.log(4)
  np.testing.assert_allclose(run({"params": params}), expected, rtol=1e-4)


def test_vamp_samples_come_from_the_mixture():
  params = _vamp_params()
  # Far from N(0, I), where samples of that would be.
  params["posterior"]["Dense_0"]["bias"] += jnp.array([7.0, -9.0, 0.0, 0.0])
  run = nn.apply(lambda v: v.prior().sample(KEYS), VAMP)
  (z,) = jax.jit(run)({"params": params})
  mean, log_variance = _components(params)
  np.testing.assert_allclose(np.mean(z, 0), mean.mean(0), atol=0.05)
  variance = np.exp(log_variance).mean(0) + mean.var(0)
  np.testing.assert_allclose(np.var(z, 0), variance, rtol=0.06)


@functools.partial(jax.jit, static_argnums=1)
def _loss_and_gradient(params, devices):
  batch = exact_model.batch_of(_images(8))

  def loss(params):
    out = exact_model.terms_of(
      elbo.elbo, params, batch, vae=VAMP, devices=devices
    )
    return out.loss.mean(), out.rate

  return jax.value_and_grad(loss, has_aux=True)(params)


def test_vamp_loss_and_gradient_on_eight_devices():
  params = _vamp_params()
  one, eight = (_loss_and_gradient(params, n) for n in (1, 8))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    one,
    eight,
  )
  values = np.asarray(params["latent_prior"]["pseudo_inputs"])
  gradient = np.asarray(one[1]["latent_prior"]["pseudo_inputs"])
  assert (gradient[(values >= 0) & (values <= 1)] != 0).all()
  # Outside, a step against the gradient leads back, or nowhere.
  assert (gradient[values < 0] <= 0).all() and (gradient[values < 0] < 0).any()
  assert (gradient[values > 1] >= 0).all() and (gradient[values > 1] > 0).any()


@pytest.mark.parametrize("part", ["latent_prior", "posterior"])
def test_vamp_gradient_against_finite_differences(part):
  params = _vamp_params()
  # Where clipping has a derivative.
  params["latent_prior"] = jax.tree.map(
    lambda v: jnp.clip(v, 0.1, 0.9), params["latent_prior"]
  )
  flat, unravel = flatten_util.ravel_pytree(params[part])
  way = np.random.default_rng(0).normal(size=flat.shape).astype(np.float32)

  def moved(size):
    return params | {part: unravel(flat + size * way)}

  high, low = (_loss_and_gradient(moved(s), 1)[0][0] for s in (3e-3, -3e-3))
  gradient = _loss_and_gradient(params, 1)[1][part]
  slope = flatten_util.ravel_pytree(gradient)[0] @ way
  np.testing.assert_allclose(slope, (high - low) / 6e-3, rtol=2e-2, atol=2e-2)


class _Source:
  """What a split offers, without files."""

  label_shape = None
  identity = {}

  def __init__(self, image):
    self.image, self.image_shape = image, image.shape[1:]

  def __len__(self):
    return len(self.image)

  def fetch(self, index):
    return {"image": self.image[index]}


SOURCE = _Source(
  np.random.default_rng(4).integers(0, 256, (30, 4, 5, 3)).astype(np.uint8)
  * (np.arange(5) > 0)[None, None, :, None].astype(np.uint8)
)


def _config(**settings):
  c = tiny_config("", data__image_shape=SOURCE.image_shape, **settings)
  c.data.grayscale = False
  return c


def _zeros(config, shape):
  """Variables of the right structure, without compiling their start."""
  shapes = jax.eval_shape(lambda: build.init_variables(config, shape))
  return jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), shapes)


def _vamp_config(**args):
  return _config(
    model__prior__name="vamp", model__prior__args={"num_components": 3} | args
  )


@pytest.fixture(scope="module")
def from_data():
  """Returns a config that starts from images, and its plain variables."""
  c = _vamp_config(initial="data")
  c.model.output_bias = "data"
  assert build.reads_data(c)
  return c, _zeros(c, SOURCE.image_shape)


def test_pseudo_inputs_start_at_chosen_images(from_data):
  c, before = from_data
  chosen = []
  for seed in (0, 0, 1):
    c = c.copy_and_resolve_references()
    c.seed = seed
    after = build.init_from_data(c, before, SOURCE)
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


def test_the_decoder_starts_at_the_mean_image(from_data, monkeypatch):
  # Several chunks, the last one shorter.
  monkeypatch.setattr(build, "_CHUNK", 7 * 60)
  c, before = from_data
  after = build.init_from_data(c, before, SOURCE)
  vae = build.model(c, SOURCE.image_shape, train=False)
  # Without latents there is only the bias.
  code = (jnp.zeros((1, 3)),)
  mean = nn.apply(lambda v: v.decode(code).mean[0], vae)(after)
  expected = np.clip(SOURCE.image.mean(0) / 255, 0.001, 0.999)
  np.testing.assert_allclose(mean, expected, rtol=1e-5)
  assert (expected == 0.001).any()
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), before, after)
  # The bias and the pseudo-inputs.
  assert sum(not leaf for leaf in jax.tree.leaves(same)) == 2


def test_nothing_is_read_unless_asked_for():
  assert not build.reads_data(_config())
  assert not build.reads_data(_vamp_config())


@pytest.mark.parametrize(
  "settings, said",
  [
    ({"model__prior__args": {"initial": "mean"}}, "allowed are random, data"),
    ({"model__prior__args": {"num_components": 0}}, "num_components is 0"),
    ({"model__posterior__name": "iaf"}, "to be diagonal_normal"),
    (
      {"model__condition": "label", "data__num_labels": 2},
      "pseudo-inputs of the prior vamp have no labels",
    ),
    (
      {
        "model__encoder__name": "conv",
        "model__encoder__args": {"channels": (2,)},
      },
      "without batch norm",
    ),
  ],
)
def test_impossible_vamp_priors(settings, said):
  c = _config(model__prior__name="vamp", **settings)
  with pytest.raises(ConfigError, match=said):
    jax.eval_shape(lambda: build.init_variables(c, SOURCE.image_shape))


def test_more_pseudo_inputs_than_images():
  c = _vamp_config(initial="data", num_components=31)
  with pytest.raises(ConfigError, match="is 31, but there are only 30"):
    build.check_data(c, SOURCE)


@pytest.mark.parametrize(
  "settings",
  [
    {"model__decoder__name": "conv", "model__decoder__args": {}},
    {"model__likelihood__name": f"{__name__}.two_per_pixel"},
  ],
)
def test_an_output_bias_that_cannot_be_set(settings):
  c = _config(model__output_bias="data", **settings)
  with pytest.raises(ConfigError, match="needs the decoder mlp"):
    build.model(c, SOURCE.image_shape, train=False)


class two_per_pixel(likelihoods.bernoulli):  # noqa: N801
  """Reads two outputs for each channel."""

  def num_outputs(self, channels):
    return 2 * channels


@pytest.mark.parametrize(
  "prior",
  [
    priors.gaussian_mixture(2, num_components=2),
    priors.vamp((2, 3), 1, num_components=2),
    priors.flow(2, num_layers=1, hidden=(4,)),
  ],
)
def test_pictures_of_every_prior(prior):
  vae = exact_model.VAE.clone(latent_prior=prior)
  batch = exact_model.batch_of(_images(1))
  shapes = jax.eval_shape(vae.init, batch.key[0], batch.image, batch.key)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda v: jnp.asarray(rng.normal(size=v.shape), v.dtype), shapes
  )
  few = latents.sample(vae, variables, np.arange(2, dtype=np.int32), 0, 0.7)
  more = latents.sample(vae, variables, np.arange(3, dtype=np.int32), 0, 0.7)
  np.testing.assert_array_equal(few, more[:2])
  assert not np.array_equal(few[0], few[1])


def test_a_run_with_everything_from_data(faces_dir, tmp_path):
  c = tiny_config(
    faces_dir,
    train__num_steps=3,
    model__output_bias="data",
    model__prior__name="vamp",
    model__prior__args={"num_components": 5, "initial": "data"},
  )
  c.model.prior.args.learned = False
  splits = datasets.open_splits(c.data)
  state = train.train(c, str(tmp_path))
  c = startup.resolve(c, splits)
  before = _zeros(c, splits.image_shape)
  after = build.init_from_data(c, before, splits.train)
  # As they were after three steps, being no parameters.
  fixed = state.model_state["fixed"]["latent_prior"]["pseudo_inputs"]
  expected = after["fixed"]["latent_prior"]["pseudo_inputs"]
  np.testing.assert_array_equal(fixed, expected)
  assert np.ptp(expected) > 0.5
  bias = [
    v["decoder"]["Dense_1"]["bias"] for v in (state.params, after["params"])
  ]
  assert np.abs(bias[0] - bias[1]).max() < 0.01 < 0.1 < np.abs(bias[0]).max()
