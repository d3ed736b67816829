"""Losses under a constraint: sums by hand, boundaries, dual ascent."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import objective_checks
from tests.support.linear_gaussian_vae import (
  SHAPE,
  VAE,
  batch_of,
  exact_model,
  terms_of,
)
from vae_jax import config as config_lib
from vae_jax import distributions
from vae_jax.models import posteriors
from vae_jax.objectives import elbo, geco
from vae_jax.training import optim

DUAL = VAE.clone(auxiliary=geco.Multiplier())
HOLD = functools.partial(
  geco.capacity_vae, capacity=8.0, gamma=7.0, warmup_steps=100
)
GECO = functools.partial(geco.geco, kappa=0.5)
observe = objective_checks.terms_and_slopes


@pytest.fixture(scope="module")
def exact():
  """Returns parameters, a batch of 8 and its KL [8 2], by hand."""
  params, _ = exact_model()
  images = np.random.default_rng(1).integers(0, 256, (8, *SHAPE))
  head = jax.tree.map(np.asarray, params["posterior"]["Dense_0"])
  out = images.reshape(8, -1) / 255 @ head["kernel"] + head["bias"]
  mean, log_variance = out[:, :2], out[:, 2:]
  kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
  return params, batch_of(images), kl


@pytest.fixture(scope="module")
def slopes_of():
  """Returns a function of parameters and batch that gives the gradients of
  the mean distortion, squared error and KL of each dimension."""

  def means(params, batch):
    def objective(vae, batch):
      terms = elbo.elbo(vae, batch)
      (q,), (p,) = vae.encode(batch.image).groups, vae.prior().groups
      extras = {f"kl_{j}": v for j, v in enumerate(q.kl_per_dimension(p).T)}
      return terms.replace(extras={**terms.extras, **extras})

    terms = terms_of(objective, params, batch)
    parts = [terms.distortion, terms.extras["squared_error"]]
    parts += [terms.extras["kl_0"], terms.extras["kl_1"]]
    return jnp.stack([v.mean() for v in parts])

  compiled = objective_checks.jit(
    lambda params, image, key: jax.jacrev(means)(
      params, batch_of(image).replace(key=key)
    )
  )

  def weigh(params, batch, *weights):
    rows = compiled(params, batch.image, batch.key)
    return jax.tree.map(
      lambda v: np.tensordot(np.array(weights), v, axes=1), rows
    )

  return weigh


def with_multiplier(params, value):
  return {**params, "auxiliary": {"log_value": jnp.float32(math.log(value))}}


@pytest.mark.parametrize(
  "step, target, sign", [(0, 0, 1), (25, 2, -1), (999, 8, -1)]
)
def test_capacity_rises_and_holds_the_mean_rate(
  exact, slopes_of, step, target, sign
):
  params, batch, kl = exact
  rate = kl.sum(1)
  assert np.sign(rate.mean() - target) == sign
  terms, slopes = observe(HOLD, params, batch, step=step)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-4)
  expected = np.mean(terms.distortion) + 7 * abs(rate.mean() - target)
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-4)
  np.testing.assert_allclose(terms.extras["capacity"], target, rtol=1e-6)
  objective_checks.assert_close(
    slopes, slopes_of(params, batch, 1, 0, 7 * sign, 7 * sign)
  )


def test_capacity_of_each_example(exact):
  params, batch, kl = exact
  rate = kl.sum(1)
  middle = float(rate.mean())
  each = functools.partial(
    geco.capacity_vae, capacity=middle, warmup_steps=0, per="example"
  )
  terms, _ = observe(each, params, batch)
  expected = terms.distortion + 1000 * abs(rate - middle)
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-3)


@pytest.mark.parametrize("shift, free", [(-1e-3, 0), (1e-3, 1)])
def test_free_bits_just_below_and_above_the_mean(exact, slopes_of, shift, free):
  params, batch, kl = exact
  low = kl.mean(0).argmin()
  free_nats = float(kl.mean(0)[low] + shift)
  objective = functools.partial(
    geco.free_bits,
    free_nats=free_nats,
    beta=2.0,
    schedule="linear",
    warmup_steps=10,
  )
  terms, slopes = observe(objective, params, batch, step=10)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  np.testing.assert_array_equal(terms.extras["free_parts"], free)
  clamped = np.maximum(free_nats, kl.mean(0)).sum()
  expected = np.mean(terms.distortion) + 2 * clamped
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-5)
  # A maximum of each example's own is another number.
  assert np.maximum(free_nats, kl).sum(1).mean() > clamped + 0.01
  weights = np.full(2, 2.0)
  weights[low] *= 1 - free
  objective_checks.assert_close(
    slopes, slopes_of(params, batch, 1, 0, *weights)
  )
  first, _ = observe(objective, params, batch, step=0)
  np.testing.assert_allclose(first.loss, first.distortion, rtol=1e-6)
  objective_checks.check_batches(
    objective, params, batch, step=5, per_example=False
  )
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = observe(objective, params, some, step=10, devices=8)
  penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
  expected = 2 * np.maximum(free_nats, kl[keep].mean(0)).sum()
  np.testing.assert_allclose(penalty, expected, rtol=1e-4)


def test_free_bits_of_a_group(exact):
  params, batch, kl = exact
  # Above each dimension's mean, and below that of both together.
  free_nats = float(0.9 * kl.sum(1).mean())
  assert free_nats > kl.mean(0).max()
  objective = functools.partial(
    geco.free_bits, per="group", free_nats=free_nats
  )
  terms, _ = observe(objective, params, batch)
  expected = terms.distortion + terms.rate
  np.testing.assert_allclose(terms.loss, expected, rtol=1e-5)


def test_groups_are_parts_of_their_own():
  normal = lambda mean: distributions.DiagonalNormal(  # noqa: E731
    jnp.full((3, 2), mean), jnp.zeros((3, 2))
  )
  posterior = distributions.Groups((normal(1.0), normal(2.0)))
  prior = distributions.Groups((distributions.StandardNormal(2),) * 2)
  parts = geco._kl_parts
  np.testing.assert_allclose(
    parts(posterior, prior, "dimension"), [[0.5, 0.5, 2, 2]] * 3
  )
  np.testing.assert_allclose(parts(posterior, prior, "group"), [[1, 4]] * 3)


def test_free_bits_needs_a_closed_form(exact):
  params, batch, _ = exact
  flat = VAE.clone(posterior=posteriors.Deterministic(2))
  tree = jax.tree.map(lambda v: v[..., :2], params["posterior"])
  with pytest.raises(config_lib.ConfigError, match="closed form of each dim"):
    terms_of(geco.free_bits, {**params, "posterior": tree}, batch, vae=flat)


def test_capacity_on_eight_devices_and_among_padding(exact):
  params, batch, kl = exact
  # Each device by itself would be on either side of the target.
  assert kl.sum(1).min() < 0.8 < kl.sum(1).max()
  objective_checks.check_batches(
    HOLD, params, batch, step=10, per_example=False
  )
  keep = np.arange(8) < 5
  some = batch.replace(mask=jnp.asarray(keep))
  terms, _ = observe(HOLD, params, some, step=10, devices=8)
  penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
  expected = 7 * abs(kl[keep].sum(1).mean() - 0.8)
  np.testing.assert_allclose(penalty, expected, rtol=1e-4)


@pytest.mark.parametrize("violated", [False, True])
def test_geco_ascends_in_the_multiplier_alone(exact, slopes_of, violated):
  params, batch, kl = exact
  if violated:
    brighter = jax.tree.map(lambda v: v + 1, params["decoder"])
    params = {**params, "decoder": brighter}
  dual = with_multiplier(params, 3)
  terms, slopes = observe(GECO, dual, batch, vae=DUAL)
  error = np.asarray(terms.extras["squared_error"])
  constraint = error - math.prod(SHAPE) * 0.5**2
  assert (constraint.mean() > 0) == violated
  np.testing.assert_allclose(terms.extras["constraint"], constraint, rtol=1e-3)
  np.testing.assert_allclose(terms.extras["lambda"], 3, rtol=1e-6)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  np.testing.assert_allclose(terms.loss, terms.rate + 3 * constraint, rtol=1e-3)
  expected = slopes_of(params, batch, 0, 3, 1, 1)
  up = -3 * constraint.mean()
  expected["auxiliary"] = {"log_value": np.float32(up)}
  objective_checks.assert_close(slopes, expected)
  # One step of the run's own optimiser.
  c = config_lib.default()
  c.objective.name = "geco"
  optimizer = optim.optimizer(c, 10)
  updates, _ = optimizer.update(slopes, optimizer.init(dual), dual)
  moved = float(updates["auxiliary"]["log_value"])
  assert (moved > 0) == violated
  rate = c.optim.auxiliary.learning_rate
  np.testing.assert_allclose(abs(moved), rate, rtol=1e-3)


def test_geco_on_eight_devices_and_alone(exact):
  params, batch, _ = exact
  objective_checks.check_batches(
    GECO, with_multiplier(params, 2), batch, vae=DUAL, per_example=True
  )


@pytest.mark.parametrize(
  "objective, args, said",
  [
    ("capacity_vae", {"capacity": -1.0}, "capacity is -1.0"),
    ("capacity_vae", {"gamma": -1.0}, "gamma is -1.0"),
    ("capacity_vae", {"warmup_steps": -1}, "warmup_steps is -1"),
    ("capacity_vae", {"per": "image"}, "batch or example"),
    ("free_bits", {"free_nats": -1.0}, "free_nats is -1.0"),
    ("free_bits", {"per": "pixel"}, "dimension or group"),
    ("free_bits", {"beta": -1.0}, "beta is -1.0"),
    ("geco", {"kappa": -1.0}, "kappa is -1.0"),
    ("geco", {"kl": "exact"}, "allowed are auto, closed, sampled"),
    ("capacity_vae", {"kl": "exact"}, "allowed are auto, closed, sampled"),
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(
  exact, objective, args, said
):
  params, batch, _ = exact
  function = functools.partial(getattr(geco, objective), **args)
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(function, with_multiplier(params, 1), batch, vae=DUAL)


def test_wrong_multiplier_is_said_in_a_sentence():
  with pytest.raises(config_lib.ConfigError, match="initial is 0.0"):
    geco.Multiplier(initial=0.0).init(jax.random.key(0))
