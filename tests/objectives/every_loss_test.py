"""Every loss on a linear model: its sum, over devices, and with padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from tests.support.importance_oracle import OBJECTIVES, perturbed
from vae_jax import objectives
from vae_jax.objectives import geco

RISING = dict(schedule="linear", warmup_steps=10)
PARTS = dict(alpha=0.5, beta=3.0, gamma=2.0, dataset_size=1000)
# {loss, or a variant of it: arguments}.
LOSSES = OBJECTIVES | {
  "autoencoder": {},
  "denoising_autoencoder": dict(amount=0.5),
  "sparse_autoencoder": dict(weight=3.0, rho=0.1),
  "sparse_autoencoder l1": dict(weight=3.0, penalty="l1"),
  "rae": dict(beta=0.7, weight=0.3),
  "rae smooth": dict(beta=0.0, kind="gradient_penalty", weight=1.0),
  "elbo": {},
  "beta_vae": dict(beta=0.5),
  "beta_vae 0": dict(beta=0.0),
  "beta_vae 4": dict(beta=4.0),
  "beta_vae rising": dict(beta=2.0, **RISING),
  "capacity_vae": dict(capacity=12.0, gamma=7.0, warmup_steps=50),
  "free_bits": dict(free_nats=1.0, beta=2.0, **RISING),
  "free_bits low": dict(free_nats=0.15),
  "beta_tcvae": PARTS,
  "beta_tcvae weighted": dict(estimator="weighted", **PARTS),
  "dip_vae": dict(kind="i"),
  "dip_vae ii": dict(kind="ii"),
  "info_vae": dict(alpha=0.25, lambda_mmd=5.0, kernel="imq"),
  "info_vae as elbo": dict(lambda_mmd=1.0),
  "wae_mmd": dict(weight=3.0),
  "swae": dict(weight=3.0),
  "ssim_vae": dict(weight=5.0, beta=0.5, **RISING),
  "geco": dict(kappa=0.5),
  "factor_vae": dict(gamma=3.0),
  "wae_gan": dict(weight=3.0),
  "vae_gan": dict(gamma=0.7),
}
# Weights of the terms that losses add to the distortion, at step 5.
SUMS = {
  "autoencoder": {},
  "elbo": dict(rate=1),
  "beta_vae": dict(rate=0.5),
  "beta_vae 0": dict(rate=0),
  "beta_vae 4": dict(rate=4),
  "beta_vae rising": dict(rate=1),
  "info_vae": dict(rate=0.75, mmd=4.25),
  "info_vae as elbo": dict(rate=1),
  "wae_mmd": dict(mmd=3),
  "swae": dict(sliced_wasserstein=3),
}
# With a statistic of the global batch.
COUPLED = {"beta_tcvae", "capacity_vae", "dip_vae", "factor_vae", "free_bits"}
COUPLED |= {"info_vae", "sparse_autoencoder", "swae", "wae_mmd"}

BATCH = linear.batch_of(8, step=5)
every = pytest.mark.parametrize("name", LOSSES)


def _model(name):
  """Returns the model of a loss, and its parameters of a wrong encoder."""
  params, _ = perturbed()
  if name == "geco":
    multiplier = {"log_value": jnp.float32(np.log(3))}
    vae = linear.VAE.clone(auxiliary=geco.Multiplier())
    return vae, {**params, "auxiliary": multiplier}
  if name == "vae_gan":
    critic = linear.players_params(linear.PIXEL_CRITIC, linear.SHAPE)
    return linear.PIXEL_PLAYERS, {**critic, **params}
  if name in ("factor_vae", "wae_gan"):
    return linear.PLAYERS, {**linear.players_params(), **params}
  return linear.VAE, params


@functools.cache
def _compiled(devices):
  """Returns {loss: (its terms, the gradient of its mean)}, as a function.

  One program for all of them compiles much faster than one for each.
  """

  models = {name: _model(name) for name in LOSSES}

  def run(params, batch):
    def mean(params, name, vae):
      loss = linear.loss_of(name, **LOSSES[name])
      terms = linear.terms_of(loss, params, batch, vae=vae, devices=devices)
      total = jnp.sum(jnp.where(batch.mask, terms.loss, 0))
      return total / batch.mask.sum(), terms

    results = {}
    for name, (vae, _) in models.items():
      slopes, terms = jax.grad(mean, has_aux=True)(params[name], name, vae)
      results[name] = terms.named(), slopes
    return results

  return functools.partial(
    linear.jit(run), {name: params for name, (_, params) in models.items()}
  )


@functools.cache
def _results(devices=1):
  return _compiled(devices)(BATCH)


def test_every_loss_is_here():
  assert objectives.names() == sorted({name.split()[0] for name in LOSSES})


@every
def test_all_losses_report_the_same_draw(name):
  (terms, _), (plain, _) = _results()[name], _results()["elbo"]
  assert all(v.shape == (8,) for v in terms.values())
  rtol = 0 if name.startswith("beta_vae") else 1e-6
  if "rate" in terms and "effective_samples" not in terms:
    for term in ("rate", "distortion"):
      np.testing.assert_allclose(terms[term], plain[term], rtol=rtol)


@pytest.mark.parametrize("name", SUMS)
def test_loss_is_the_weighted_sum_of_its_terms(name):
  terms, _ = _results()[name]
  expected = sum(v * terms[k] for k, v in SUMS[name].items())
  expected += terms["distortion"]
  np.testing.assert_allclose(terms["loss"], expected, rtol=1e-6)


@every
def test_eight_devices_give_the_same_as_one(name):
  """Each device has one example; where losses are of examples, it is alone."""
  (one, slopes), (eight, again) = (_results(n)[name] for n in (1, 8))
  linear.assert_close(eight, one, rtol=1e-4)
  linear.assert_close(again, slopes, rtol=1e-4)
  if name.split()[0] not in COUPLED:
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-5)


@functools.cache
def _padded():
  """Returns results of five examples, of the same on one device, of the same
  with other padding, and of one example."""
  others = linear.images_of(8, seed=2)
  others[:5] = BATCH.image[:5]
  five = BATCH.replace(mask=jnp.arange(8) < 5)
  single = BATCH.replace(mask=jnp.arange(8) == 6)
  changed = five.replace(image=jnp.asarray(others, jnp.uint8))
  runs = ((8, five), (1, five), (8, changed), (8, single))
  return [_compiled(devices)(batch) for devices, batch in runs]


@every
def test_padding_has_no_weight_and_spoils_no_number(name):
  first, *others, single = (run[name] for run in _padded())
  linear.assert_finite((first, single))
  for terms, slopes in others:
    loss = terms["loss"][:5]
    np.testing.assert_allclose(loss, first[0]["loss"][:5], rtol=1e-5)
    linear.assert_close(slopes, first[1])


def test_info_vae_and_wae_have_the_same_mmd():
  info, wae = (_results()[name][0]["mmd"] for name in ("info_vae", "wae_mmd"))
  np.testing.assert_allclose(info, wae, rtol=1e-5)


def test_statistics_are_of_the_global_batch():
  """Single devices would be on both sides of these thresholds."""
  kl = linear.kl_of(perturbed()[0], BATCH.image)
  for values, limit in ((kl.sum(1), 1.2), (kl[:, 0], 1.0), (kl[:, 1], 0.15)):
    assert values.min() < limit < values.mean()
