"""Schedules and averaged weights as values."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax import config as config_lib
from vae_jax import optim


def test_constant_after_linear_warmup():
  c = config_lib.default()
  c.optim.warmup_steps = 10
  rate = optim.learning_rate(c, 100)
  values = [float(rate(s)) for s in (0, 4, 9, 10, 99)]
  np.testing.assert_allclose(values, [1e-4, 5e-4, 1e-3, 1e-3, 1e-3], rtol=1e-6)


def test_cosine_ends_at_its_final_share():
  c = config_lib.default()
  c.optim.schedule.name = "cosine"
  c.optim.schedule.args.final = 0.1
  rate = optim.learning_rate(c, 100)
  values = [float(rate(s)) for s in (0, 50, 100, 200)]
  np.testing.assert_allclose(values, [1e-3, 5.5e-4, 1e-4, 1e-4], rtol=1e-5)


def test_step_decays_at_fractions_of_the_run():
  c = config_lib.default()
  c.optim.schedule.name = "step"
  c.optim.schedule.args.at = (0.5, 0.75)
  rate = optim.learning_rate(c, 100)
  values = [float(rate(s)) for s in (49, 50, 74, 75)]
  np.testing.assert_allclose(values, [1e-3, 1e-4, 1e-4, 1e-5], rtol=1e-5)


@pytest.mark.parametrize("count, epochs", [(1, 1), (3, 13), (8, 3280)])
def test_stages_are_those_of_the_iwae_paper(count, epochs):
  c = config_lib.default()
  c.optim.schedule.name = "stages"
  c.optim.schedule.args.count = count
  rate = optim.learning_rate(c, 10 * epochs)
  begin = 0
  for stage in range(count):
    end = begin + 10 * 3**stage
    expected = 1e-3 * 10 ** (-stage / max(count - 1, 1))
    values = [float(rate(step)) for step in (begin, end - 1)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    begin = end
  assert begin == 10 * epochs


@pytest.mark.parametrize(
  "args", [{"count": 0}, {"growth": 0.0}, {"final": 0.0}]
)
def test_stages_that_cannot_be(args):
  c = config_lib.default()
  c.optim.schedule.name = "stages"
  c.optim.schedule.args.update(args)
  with pytest.raises(config_lib.ConfigError, match="count of at least 1"):
    optim.learning_rate(c, 10)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "sgd"])
def test_optimisers_of_optax_by_name(name):
  c = config_lib.default()
  c.optim.optimizer.name = name
  ours = optim.optimizer(c, 10)
  theirs = getattr(optax, name)(1e-3)
  params = {"w": jnp.array([1.0, -2.0])}
  grads = {"w": jnp.array([0.3, 0.1])}
  update, _ = ours.update(grads, ours.init(params), params)
  expected, _ = theirs.update(grads, theirs.init(params), params)
  np.testing.assert_allclose(update["w"], expected["w"], rtol=1e-6)


def test_clipping_is_by_global_norm():
  c = config_lib.default()
  c.optim.optimizer.name = "sgd"
  c.optim.learning_rate = 1.0
  c.optim.clip_norm = 1.0
  optimizer = optim.optimizer(c, 10)
  grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
  update, _ = optimizer.update(grads, optimizer.init(grads), grads)
  np.testing.assert_allclose(update["a"], [-0.6], rtol=1e-6)
  np.testing.assert_allclose(update["b"], [-0.8], rtol=1e-6)


def test_debiased_average_is_the_weighted_mean():
  values, decay = [1.0, 5.0, -2.0], 0.9
  average = {"w": jnp.zeros(())}
  for v in values:
    average = optim.update_ema(average, {"w": jnp.float32(v)}, decay)
  weights = 0.1 * decay ** np.arange(2, -1, -1)
  expected = (weights * values).sum() / weights.sum()
  debiased = optim.debias_ema(average, decay, 3)
  np.testing.assert_allclose(debiased["w"], expected, rtol=1e-6)


@pytest.mark.parametrize(
  "path, value, said",
  [
    ("optim.optimizer.name", "adamm", "adamm"),
    ("optim.optimizer.name", "chain", "optimiser of optax"),
    ("optim.optimizer.args.bta", 1, "bta"),
    ("optim.schedule.name", "cosin", "cosin"),
    ("optim.schedule.args.final", 1.0, "final"),
  ],
)
def test_what_optax_lacks_is_said(path, value, said):
  c = config_lib.default()
  config_lib.update(c, path, value)
  with pytest.raises(config_lib.ConfigError, match=said):
    optim.optimizer(c, 10)
