"""Learned priors: densities by brute force, draws and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from flax import linen as nn
from jax import flatten_util

from tests.support import linear_gaussian_vae as linear
from tests.support.networks import random_variables
from vae_jax import distributions
from vae_jax.latents import apply
from vae_jax.models import priors
from vae_jax.models.draw import rates
from vae_jax.objectives import elbo

KEYS = jax.random.split(jax.random.key(3), 20_000)


VAMP = linear.VAE.clone(latent_prior=priors.Vamp((2, 3), 1, num_components=4))


def _vamp_params():
  params, _ = linear.exact_model()
  # Some pixels are outside of [0, 1].
  pixels = np.random.default_rng(2).uniform(-0.3, 1.3, (4, *linear.SHAPE))
  return params | {"latent_prior": {"pseudo_inputs": jnp.float32(pixels)}}


def test_sampled_rate_has_the_closed_form_as_mean():
  prior = priors.GaussianMixture(2, num_components=1, spread=0.0)
  normal = distributions.Groups((distributions.StandardNormal(2),))

  @jax.jit
  def run(key):
    p, _ = prior.init_with_output(jax.random.key(0), lambda image: image)
    mean, log_variance = jnp.array([[0.5, -1.0]]), jnp.array([[-1.0, 0.3]])
    wide = lambda v: jnp.tile(v, (len(key), 1))  # noqa: E731
    q = distributions.DiagonalNormal(wide(mean), wide(log_variance))
    assert not q.has_kl(p)
    q, p = distributions.Groups((q,)), distributions.Groups((p,))
    z, log_q = q.draw(key)
    return rates(q, p, z, log_q, kl="auto")[0], q.kl(normal)[0]

  rate, exact = run(KEYS)
  rate = np.asarray(rate, np.float64)
  assert abs(rate.mean() - exact) < 5 * rate.std() / np.sqrt(len(KEYS))


def test_gaussian_mixture_starts_spread_out():
  prior = priors.GaussianMixture(3, num_components=400, spread=2.0)
  p, _ = prior.init_with_output(jax.random.key(0), lambda image: image)
  np.testing.assert_allclose(np.std(p.mean), 2.0, rtol=0.1)
  assert not np.any(p.log_variance) and not np.any(p.logits)


def _components(params):
  """Mean and log variance of q(z | u_k), one after another."""
  u = np.clip(params["latent_prior"]["pseudo_inputs"], 0, 1)
  return linear.code_of(params, 255 * u)


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


def _terms_and_slopes(params, devices=1):
  batch = linear.batch_of(8)
  return linear.terms_and_slopes(elbo.elbo, params, batch, VAMP, devices)


def test_vamp_loss_and_gradient_are_the_same_on_eight_devices():
  params = _vamp_params()
  one, eight = (_terms_and_slopes(params, n) for n in (1, 8))
  linear.assert_close(one, eight, rtol=1e-4)
  values = np.asarray(params["latent_prior"]["pseudo_inputs"])
  gradient = np.asarray(one[1]["latent_prior"]["pseudo_inputs"])
  assert (gradient[(values >= 0) & (values <= 1)] != 0).all()
  # Outside, a step against the gradient leads back, or nowhere.
  assert (gradient[values < 0] <= 0).all() and (gradient[values < 0] < 0).any()
  assert (gradient[values > 1] >= 0).all() and (gradient[values > 1] > 0).any()


@pytest.mark.parametrize("part", ["latent_prior", "posterior"])
def test_vamp_gradient_equals_finite_differences(part):
  params = _vamp_params()
  # Where clipping has a derivative.
  params["latent_prior"] = jax.tree.map(
    lambda v: jnp.clip(v, 0.1, 0.9), params["latent_prior"]
  )
  flat, unravel = flatten_util.ravel_pytree(params[part])
  direction = np.float32(np.random.default_rng(0).normal(size=flat.shape))

  def value(size):
    moved = params | {part: unravel(flat + size * direction)}
    return _terms_and_slopes(moved)[0].loss.mean()

  high, low = value(3e-3), value(-3e-3)
  gradient = _terms_and_slopes(params)[1][part]
  slope = flatten_util.ravel_pytree(gradient)[0] @ direction
  np.testing.assert_allclose(slope, (high - low) / 6e-3, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
  "prior",
  [
    priors.GaussianMixture(2, num_components=2),
    priors.Vamp((2, 3), 1, num_components=2),
    priors.Flow(2, num_layers=1, hidden=(4,)),
  ],
)
def test_every_prior_samples_images_by_index(prior):
  vae = linear.VAE.clone(latent_prior=prior)
  batch = linear.batch_of(1)
  variables = random_variables(vae, batch.image, batch.key)
  few = apply.sample(vae, variables, np.arange(2, dtype=np.int32), 0, 0.7)
  more = apply.sample(vae, variables, np.arange(3, dtype=np.int32), 0, 0.7)
  np.testing.assert_array_equal(few, more[:2])
  assert not np.array_equal(few[0], few[1])
