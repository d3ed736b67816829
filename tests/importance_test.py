"""Weighted draws against formulas written out once more, and in theory."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import struct

from tests.exact_model import (
  SHAPE,
  SIGMA,
  VAE,
  batch_of,
  exact_model,
  part_of,
  terms_of,
)
from vae_jax import config as config_lib
from vae_jax import distributions
from vae_jax.models import posteriors
from vae_jax.objectives import importance, reparameterized

M, K = 2, 3
OBJECTIVES = {
  "iwae": functools.partial(importance.iwae, num_samples=M * K),
  "miwae": functools.partial(importance.miwae, num_outer=M, num_samples=K),
  "piwae": functools.partial(importance.piwae, num_outer=M, num_samples=K),
  "ciwae": functools.partial(importance.ciwae, beta=0.3, num_samples=M * K),
  "stl": functools.partial(reparameterized.stl, num_samples=M * K),
  "dreg": functools.partial(reparameterized.dreg, num_samples=M * K),
  "rws": functools.partial(reparameterized.rws, num_samples=M * K),
  "rws_doubly": functools.partial(
    reparameterized.rws, num_samples=M * K, doubly=True
  ),
}
every = pytest.mark.parametrize("name", OBJECTIVES)


def images(count, seed=1):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE))


def perturbed(scale=0.5):
  """The exact model with a wrong encoder, and log p(x)."""
  params, log_likelihood = exact_model()
  noise = np.random.default_rng(0)
  head = params["posterior"]["Dense_0"]
  params["posterior"]["Dense_0"] = jax.tree.map(
    lambda v: v + jnp.asarray(scale * noise.normal(size=v.shape), v.dtype), head
  )
  return params, log_likelihood


def noise_of(key, count):
  """The standard normal numbers behind draws 0 to count - 1, [k b d]."""
  zero = jnp.zeros((len(key), 2))
  keys = importance.draw_keys(key, jnp.arange(count))
  group = distributions.Groups((distributions.DiagonalNormal(zero, zero),))
  return jax.vmap(lambda k: group.sample(k)[0])(keys)


def log_normal(x, mean, sigma):
  square = ((x - mean) / sigma) ** 2
  return (-0.5 * square - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)).sum()


def log_w(model, through, density, x, noise):
  """log w of one image, where the encoder's weights come in two ways."""

  def q(head):
    out = x @ head["kernel"] + head["bias"]
    return out[:2], jnp.exp(0.5 * out[2:])

  mean, sigma = q(through)
  z = mean + sigma * noise
  pixels = z @ model["kernel"] + model["bias"]
  return (
    log_normal(x, pixels, jnp.full(6, SIGMA))
    + log_normal(z, jnp.zeros(2), jnp.ones(2))
    - log_normal(z, *q(density))
  )


@functools.cache
def by_hand():
  """log w [b n] of some images, and its three derivatives for each draw."""
  params, _ = perturbed()
  batch = batch_of(images(4))
  x = batch.image.reshape(4, -1) / 255
  noise = noise_of(batch.key, M * K).swapaxes(0, 1)
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  of_draws = jax.vmap(
    jax.value_and_grad(log_w, (0, 1, 2)), (None, None, None, None, 0)
  )
  of_images = jax.jit(jax.vmap(of_draws, (None, None, None, 0, 0)))
  values, slopes = of_images(decoder, head, head, x, noise)
  return params, batch, np.asarray(values), slopes


def softmax(values):
  weights = np.exp(values - values.max(-1, keepdims=True))
  return weights / weights.sum(-1, keepdims=True)


def log_mean_exp(values):
  return np.log(np.mean(np.exp(values), -1))


def expected_loss(name, values):
  tight = log_mean_exp(values)
  if name == "miwae":
    return -log_mean_exp(values.reshape(4, M, K)).mean(1)
  if name == "ciwae":
    return -(0.3 * values.mean(1) + 0.7 * tight)
  return -tight


def expected_weights(name, values):
  """What each draw's derivatives weigh in the gradient of the bound: for the
  model, through the draw, and through the density."""
  tight = softmax(values)
  groups = softmax(values.reshape(4, M, K)).reshape(4, M * K) / M
  mixed = 0.3 / (M * K) + 0.7 * tight
  none = np.zeros_like(tight)
  return {
    "iwae": (tight, tight, tight),
    "miwae": (groups, groups, groups),
    "piwae": (tight, groups, groups),
    "ciwae": (mixed, mixed, mixed),
    "stl": (tight, tight, none),
    "dreg": (tight, tight**2, none),
    # The density is subtracted in log w.
    "rws": (tight, none, -tight),
    "rws_doubly": (tight, tight - tight**2, none),
  }[name]


@functools.cache
def gradient_of(name, devices=1):
  def loss(params, batch):
    terms = terms_of(OBJECTIVES[name], params, batch, devices=devices)
    return terms.loss.mean(), terms

  return jax.jit(jax.grad(loss, has_aux=True))


@every
def test_values_and_gradients_against_the_formula(name):
  params, batch, values, slopes = by_hand()
  gradient, terms = gradient_of(name)(params, batch)
  np.testing.assert_allclose(terms.loss, expected_loss(name, values), rtol=1e-5)
  model, through, density = (
    jax.tree.map(lambda v, w=w: -np.einsum("bk,bk...", w, v) / 4, slope)
    for w, slope in zip(expected_weights(name, values), slopes, strict=True)
  )
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient["decoder"]["Dense_0"], model)
  head = jax.tree.map(np.add, through, density)
  jax.tree.map(close, gradient["posterior"]["Dense_0"], head)


@every
def test_what_is_reported_beside_the_loss(name):
  params, batch, values, _ = by_hand()
  _, terms = gradient_of(name)(params, batch)
  extras = terms.extras
  np.testing.assert_allclose(
    extras["neg_iwae"], -log_mean_exp(values), rtol=1e-5
  )
  np.testing.assert_allclose(
    extras["effective_samples"], 1 / (softmax(values) ** 2).sum(1), rtol=1e-4
  )
  x = np.asarray(batch.image).reshape(4, -1) / 255
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  out = x @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
  mean, log_variance = out[:, :2], out[:, 2:]
  rate = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)
  z = mean + np.exp(0.5 * log_variance) * noise_of(batch.key, M * K)
  pixels = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
  error = ((x - pixels) ** 2).sum(2).mean(0)
  distortion = error / (2 * SIGMA**2) + 6 * math.log(SIGMA)
  distortion += 3 * math.log(2 * math.pi)
  np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-4)
  np.testing.assert_allclose(extras["squared_error"], error, rtol=1e-4)


def test_the_best_draw_weighs_the_most():
  """The gradient of the decoder's bias is a weighted mean of residuals."""
  params, batch, values, _ = by_hand()
  gradient, _ = gradient_of("iwae")(params, batch)
  x = np.asarray(batch.image).reshape(4, -1) / 255
  head, decoder = params["posterior"]["Dense_0"], params["decoder"]["Dense_0"]
  out = x @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
  noise = np.asarray(noise_of(batch.key, M * K))
  z = out[:, :2] + np.exp(0.5 * out[:, 2:]) * noise
  pixels = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
  order = values.argsort(1)
  weights = softmax(values)
  assert (np.diff(np.take_along_axis(weights, order, 1), axis=1) > 0).all()
  residual = (x - pixels) / SIGMA**2
  expected = -np.einsum("bk,kbd->bd", weights, residual).mean(0)
  np.testing.assert_allclose(
    gradient["decoder"]["Dense_0"]["bias"], expected, rtol=1e-4, atol=1e-4
  )


def test_groups_of_one_draw_and_one_group():
  params, batch, values, _ = by_hand()
  whole = functools.partial(importance.miwae, num_outer=1, num_samples=M * K)
  single = functools.partial(importance.miwae, num_outer=M * K, num_samples=1)
  np.testing.assert_array_equal(
    terms_of(whole, params, batch).loss,
    terms_of(OBJECTIVES["iwae"], params, batch).loss,
  )
  terms = terms_of(single, params, batch)
  np.testing.assert_allclose(terms.loss, -values.mean(1), rtol=1e-5)
  only_elbo = functools.partial(importance.ciwae, beta=1.0, num_samples=M * K)
  np.testing.assert_allclose(
    terms.loss, terms_of(only_elbo, params, batch).loss, rtol=1e-5
  )


@pytest.mark.parametrize("count", [1, 7])
def test_at_the_exact_posterior_every_bound_is_tight(count):
  params, log_likelihood = exact_model()
  batch = batch_of(images(3))
  expected = -log_likelihood(np.asarray(batch.image))
  for objective in (
    functools.partial(importance.iwae, num_samples=count),
    functools.partial(importance.piwae, num_outer=count, num_samples=2),
    functools.partial(reparameterized.dreg, num_samples=count),
  ):
    terms = terms_of(objective, params, batch)
    np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(terms.extras["neg_iwae"], expected, rtol=1e-5)


def test_the_bound_grows_with_the_number_of_draws():
  params, log_likelihood = perturbed()
  image = images(1)
  batch = batch_of(np.repeat(image, 4000, 0))
  losses = [
    np.asarray(
      terms_of(
        functools.partial(importance.iwae, num_samples=k), params, batch
      ).loss
    )
    for k in (1, 4, 16, 64)
  ]
  means = [v.mean() for v in losses]
  error = max(v.std() for v in losses) / math.sqrt(4000)
  assert (np.diff(means) < -3 * error).all()
  gap = means[-1] + float(log_likelihood(image))
  assert 0 < gap < 0.3 * (means[0] + float(log_likelihood(image)))


@functools.cache
def encoder_gradients(objective, count):
  """Gradients for the encoder's bias at 4,000 independent keys."""
  params, _ = perturbed()
  batch = batch_of(images(1))
  objective = functools.partial(
    getattr(reparameterized, objective, None)
    or getattr(importance, objective.removesuffix("_doubly"), None)
    or functools.partial(reparameterized.rws, doubly=True),
    num_samples=count,
  )

  def loss(params, key):
    return terms_of(objective, params, batch.replace(key=key)).loss[0]

  keys = jax.random.split(jax.random.key(5), (4000, 1))
  gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, keys)
  return np.asarray(gradients["posterior"]["Dense_0"]["bias"])


@pytest.mark.parametrize(
  "noisy, calm, count",
  [("iwae", "dreg", 5), ("rws", "rws_doubly", 5), ("iwae", "stl", 1)],
)
def test_two_ways_to_the_same_gradient(noisy, calm, count):
  a, b = encoder_gradients(noisy, count), encoder_gradients(calm, count)
  error = np.sqrt((a.var(0) + b.var(0)) / len(a))
  assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()
  assert (np.abs(a.mean(0)) > 8 * error).any()
  if count > 1:
    assert b.var(0).sum() < 0.7 * a.var(0).sum()


def test_no_gradient_for_the_encoder_at_the_exact_posterior():
  params, _ = exact_model()
  batch = batch_of(images(4))
  largest = {}
  for name in ("iwae", "stl", "dreg", "rws_doubly"):
    gradient, _ = gradient_of(name)(params, batch)
    leaves = jax.tree.leaves(gradient["posterior"])
    largest[name] = max(float(jnp.abs(v).max()) for v in leaves)
  assert largest.pop("iwae") > 0.01
  assert max(largest.values()) < 1e-5


@every
def test_devices_and_batches_change_nothing(name):
  params, _ = perturbed()
  batch = batch_of(images(8), mask=np.arange(8) < 7)
  gradient, terms = gradient_of(name)(params, batch)
  split, per_device = gradient_of(name, devices=8)(params, batch)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(close, gradient, split)
  np.testing.assert_allclose(terms.loss, per_device.loss, rtol=1e-5)
  one = part_of(batch, slice(2, 3))
  gradient, single = gradient_of(name)(params, one)
  np.testing.assert_allclose(single.loss, terms.loss[2:3], rtol=1e-5)
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(gradient))


@struct.dataclass
class Laplace:
  """A prior to which no divergence has a closed form."""

  def log_prob(self, z):
    return -jnp.abs(z).sum(-1) - 2 * math.log(2)


class _LaplacePrior(nn.Module):
  def __call__(self, encode):
    return Laplace()


def test_a_prior_without_closed_form():
  params, batch, values, _ = by_hand()
  vae = VAE.clone(latent_prior=_LaplacePrior())
  terms = terms_of(OBJECTIVES["iwae"], params, batch, vae=vae)
  x = np.asarray(batch.image).reshape(4, -1) / 255
  head = params["posterior"]["Dense_0"]
  out = x @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
  noise = np.asarray(noise_of(batch.key, M * K))
  z = out[:, :2] + np.exp(0.5 * out[:, 2:]) * noise
  normal = -0.5 * (z**2).sum(2) - math.log(2 * math.pi)
  laplace = -np.abs(z).sum(2) - 2 * math.log(2)
  expected = log_mean_exp(values + (laplace - normal).T)
  np.testing.assert_allclose(terms.loss, -expected, rtol=1e-5)
  log_q = -0.5 * (noise**2 + out[:, 2:] + math.log(2 * math.pi)).sum(2)
  np.testing.assert_allclose(terms.rate, (log_q - laplace).mean(0), rtol=1e-4)


def test_a_draw_depends_on_its_number_alone():
  key = jax.random.split(jax.random.key(0), 3)
  few = noise_of(key, 2)
  np.testing.assert_array_equal(noise_of(key, 5)[:2], few)
  np.testing.assert_array_equal(noise_of(key[1:], 2), few[:, 1:])
  assert len(np.unique(noise_of(key, 5).round(6))) == 5 * 3 * 2


@pytest.mark.parametrize(
  "objective, args, said",
  [
    (importance.iwae, {"num_samples": 0}, "num_samples is 0"),
    (importance.miwae, {"num_outer": 0}, "num_outer is 0"),
    (importance.piwae, {"num_outer": -1}, "num_outer is -1"),
    (importance.ciwae, {"beta": 1.5}, "beta is 1.5; it must be from 0 to 1"),
    (reparameterized.stl, {"num_samples": 0}, "num_samples is 0"),
    (reparameterized.dreg, {"num_samples": 0}, "num_samples is 0"),
    (reparameterized.rws, {"num_samples": 1}, "it must be at least 2"),
  ],
)
def test_wrong_numbers_are_said_in_a_sentence(objective, args, said):
  params, _ = exact_model()
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(functools.partial(objective, **args), params, batch_of(images(1)))


@pytest.mark.parametrize("name", ["iwae", "stl", "dreg", "rws"])
def test_a_posterior_without_density_is_said_in_a_sentence(name):
  vae = VAE.clone(posterior=posteriors.deterministic(2))
  head = {"kernel": jnp.zeros((6, 2)), "bias": jnp.zeros(2)}
  params, _ = exact_model()
  params["posterior"]["Dense_0"] = head
  with pytest.raises(config_lib.ConfigError, match="diagonal_normal"):
    terms_of(OBJECTIVES[name], params, batch_of(images(1)), vae=vae)
