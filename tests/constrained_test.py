"""Losses under a constraint: sums by hand, boundaries, dual ascent."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import objective_checks
from tests.exact_model import SHAPE, VAE, batch_of, exact_model, terms_of
from vae_jax import config as config_lib
from vae_jax import distributions, models, objectives, optim
from vae_jax.models import posteriors
from vae_jax.objectives import constrained, elbo

DUAL = VAE.clone(auxiliary=constrained.Multiplier())


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


def with_multiplier(params, value):
  return {**params, "auxiliary": {"log_value": jnp.float32(math.log(value))}}


def bound_of(weigh):
  """Returns the bound with distortion + weigh(KL [b 2]) as its loss."""

  def objective(vae, batch, *, step):
    terms = elbo.elbo(vae, batch, step=step)
    (q,), (p,) = vae.encode(batch.image).groups, vae.prior().groups
    return terms.replace(loss=terms.distortion + weigh(q.kl_per_dimension(p)))

  return objective


@pytest.mark.parametrize("step, share", [(25, 0.25), (999, 1)])
def test_capacity_rises_and_holds_the_mean_rate(exact, step, share):
  params, batch, kl = exact
  objective = functools.partial(
    constrained.capacity_vae, capacity=6.0, gamma=7.0, warmup_steps=100
  )
  terms = terms_of(objective, params, batch, step=step)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  away = abs(kl.sum(1).mean() - 6 * share)
  expected = np.mean(terms.distortion) + 7 * away
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-4)
  np.testing.assert_allclose(terms.extras["capacity"], 6 * share, rtol=1e-6)


def test_capacity_of_each_example(exact):
  params, batch, kl = exact
  rate = kl.sum(1)
  middle = float(rate.mean())
  objective = functools.partial(
    constrained.capacity_vae, capacity=middle, gamma=7.0, warmup_steps=0
  )
  each = terms_of(functools.partial(objective, per="example"), params, batch)
  expected = each.distortion + 7 * abs(rate - middle)
  np.testing.assert_allclose(each.loss, expected, rtol=1e-4)
  whole = terms_of(objective, params, batch)
  assert np.mean(each.loss) > np.mean(whole.loss) + 0.1


@pytest.mark.parametrize("capacity, sign", [(0.5, 1), (9.0, -1)])
def test_capacity_pushes_the_rate_towards_it(exact, capacity, sign):
  params, batch, _ = exact
  objective = functools.partial(
    constrained.capacity_vae, capacity=capacity, gamma=7.0, warmup_steps=0
  )
  pushed = bound_of(lambda kl: sign * 7 * kl.sum(1))
  _, slopes = objective_checks.terms_and_slopes(objective, params, batch)
  _, expected = objective_checks.terms_and_slopes(pushed, params, batch)
  objective_checks.assert_close(slopes, expected)


@pytest.mark.parametrize("shift, free", [(-1e-3, 0), (1e-3, 1)])
def test_free_bits_just_below_and_above_the_mean(exact, shift, free):
  params, batch, kl = exact
  low = kl.mean(0).argmin()
  free_nats = float(kl.mean(0)[low] + shift)
  objective = functools.partial(
    constrained.free_bits, free_nats=free_nats, beta=2.0
  )
  terms, slopes = objective_checks.terms_and_slopes(objective, params, batch)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  np.testing.assert_array_equal(terms.extras["free_parts"], free)
  clamped = np.maximum(free_nats, kl.mean(0)).sum()
  expected = np.mean(terms.distortion) + 2 * clamped
  np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-5)
  # A maximum of each example's own is another number.
  harsher = np.maximum(free_nats, kl).sum(1).mean()
  assert harsher > clamped + 0.01
  weight = np.ones(2)
  weight[low] = 1 - free
  above = bound_of(lambda kl: 2 * (kl * weight[None]).sum(1))
  _, expected = objective_checks.terms_and_slopes(above, params, batch)
  objective_checks.assert_close(slopes, expected)


def test_free_bits_of_a_group(exact):
  params, batch, kl = exact
  objective = functools.partial(constrained.free_bits, per="group")
  total = kl.sum(1).mean()
  for free_nats in (0.9 * total, 1.1 * total):
    terms = terms_of(
      functools.partial(objective, free_nats=float(free_nats)), params, batch
    )
    expected = np.mean(terms.distortion) + max(free_nats, total)
    np.testing.assert_allclose(np.mean(terms.loss), expected, rtol=1e-5)


def test_free_bits_warms_up(exact):
  params, batch, _ = exact
  objective = functools.partial(
    constrained.free_bits, schedule="linear", warmup_steps=10
  )
  first, half, last = (
    terms_of(objective, params, batch, step=s) for s in (0, 5, 10)
  )
  np.testing.assert_allclose(first.loss, first.distortion, rtol=1e-6)
  np.testing.assert_allclose(2 * half.loss - first.loss, last.loss, rtol=1e-5)


def test_padding_does_not_count(exact):
  params, batch, kl = exact
  keep = np.arange(8) < 5
  batch = batch.replace(mask=jnp.asarray(keep))
  rate = kl[keep].mean(0)
  free_nats = float(rate.mean())
  clamp = functools.partial(constrained.free_bits, free_nats=free_nats)
  hold = functools.partial(
    constrained.capacity_vae, capacity=9.0, gamma=7.0, warmup_steps=0
  )
  for objective, expected in (
    (clamp, np.maximum(free_nats, rate).sum()),
    (hold, 7 * abs(rate.sum() - 9)),
  ):
    terms = terms_of(objective, params, batch, devices=8)
    penalty = np.asarray(terms.loss - terms.distortion)[keep].mean()
    np.testing.assert_allclose(penalty, expected, rtol=1e-4)


def test_free_bits_needs_a_closed_form(exact):
  params, batch, _ = exact
  flat = VAE.clone(posterior=posteriors.deterministic(2))
  tree = jax.tree.map(lambda v: v[..., :2], params["posterior"])
  with pytest.raises(config_lib.ConfigError, match="closed form of each dim"):
    terms_of(
      constrained.free_bits, {**params, "posterior": tree}, batch, vae=flat
    )


def test_sampled_rate_where_asked(exact):
  params, batch, _ = exact
  hold = functools.partial(constrained.capacity_vae, kl="sampled")
  terms = terms_of(hold, params, batch)
  plain = terms_of(functools.partial(elbo.elbo, kl="sampled"), params, batch)
  np.testing.assert_array_equal(terms.rate, plain.rate)
  dual = functools.partial(constrained.geco, kl="sampled")
  terms = terms_of(dual, with_multiplier(params, 1), batch, vae=DUAL)
  np.testing.assert_array_equal(terms.rate, plain.rate)


def test_geco_is_rate_plus_multiplier_times_constraint(exact):
  params, batch, _ = exact
  terms = terms_of(
    functools.partial(constrained.geco, kappa=0.2),
    with_multiplier(params, 3),
    batch,
    vae=DUAL,
  )
  plain = terms_of(elbo.elbo, params, batch)
  np.testing.assert_array_equal(terms.distortion, plain.distortion)
  np.testing.assert_array_equal(terms.rate, plain.rate)
  constraint = plain.extras["squared_error"] - math.prod(SHAPE) * 0.2**2
  np.testing.assert_allclose(terms.extras["constraint"], constraint, rtol=1e-4)
  np.testing.assert_allclose(terms.extras["lambda"], 3, rtol=1e-6)
  np.testing.assert_allclose(terms.loss, plain.rate + 3 * constraint, rtol=1e-4)


@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_geco_ascends_in_the_multiplier_alone(exact, kappa):
  params, batch, _ = exact
  dual = with_multiplier(params, 3)
  objective = functools.partial(constrained.geco, kappa=kappa)
  run = objective_checks.terms_and_slopes
  terms, slopes = run(objective, dual, batch, vae=DUAL)
  violation = np.mean(terms.extras["constraint"])
  assert (violation > 0) == (kappa == 0)
  up = slopes["auxiliary"]["log_value"]
  np.testing.assert_allclose(up, -3 * violation, rtol=1e-4)
  _, expected = run(_held, params, batch)
  objective_checks.assert_close(
    {**expected, "auxiliary": {"log_value": up}}, slopes
  )
  # One step of the run's own optimiser.
  c = config_lib.default()
  c.objective.name = "geco"
  optimizer = optim.optimizer(c, 10)
  updates, _ = optimizer.update(slopes, optimizer.init(dual), dual)
  moved = float(updates["auxiliary"]["log_value"])
  assert (moved > 0) == (violation > 0)
  np.testing.assert_allclose(
    abs(moved), c.optim.auxiliary.learning_rate, rtol=1e-3
  )


def _held(vae, batch, *, step):
  terms = elbo.elbo(vae, batch, step=step)
  return terms.replace(loss=terms.rate + 3 * terms.extras["squared_error"])


def test_batches(exact):
  params, batch, kl = exact
  mean = kl.mean(0)
  # Each device by itself would be on either side of the threshold.
  assert kl.sum(1).min() < mean.sum() < kl.sum(1).max()
  check = functools.partial(objective_checks.check_batches, batch=batch)
  free = functools.partial(
    constrained.free_bits, free_nats=float(mean.min()) + 1e-3
  )
  hold = functools.partial(
    constrained.capacity_vae, capacity=float(mean.sum()) + 1e-3, warmup_steps=0
  )
  for objective in (free, hold):
    check(objective, params, per_example=False)
  dual = with_multiplier(params, 2)
  check(constrained.geco, dual, vae=DUAL, per_example=True)


def test_groups_are_parts_of_their_own():
  normal = lambda mean: distributions.DiagonalNormal(  # noqa: E731
    jnp.full((3, 2), mean), jnp.zeros((3, 2))
  )
  posterior = distributions.Groups((normal(1.0), normal(2.0)))
  prior = distributions.Groups((distributions.StandardNormal(2),) * 2)
  parts = constrained._kl_parts
  np.testing.assert_allclose(
    parts(posterior, prior, "dimension"), [[0.5, 0.5, 2, 2]] * 3
  )
  np.testing.assert_allclose(parts(posterior, prior, "group"), [[1, 4]] * 3)


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
  ],
)
def test_wrong_hyperparameters_are_said_in_a_sentence(
  exact, objective, args, said
):
  params, batch, _ = exact
  function = functools.partial(getattr(constrained, objective), **args)
  with pytest.raises(config_lib.ConfigError, match=said):
    terms_of(function, with_multiplier(params, 1), batch, vae=DUAL)


def test_wrong_multiplier_is_said_in_a_sentence(exact):
  _, batch, _ = exact
  bad = VAE.clone(auxiliary=constrained.Multiplier(initial=0.0))
  assert isinstance(bad, models.Vae)
  with pytest.raises(config_lib.ConfigError, match="initial is 0.0"):
    bad.init(jax.random.key(0), batch.image, batch.key)
