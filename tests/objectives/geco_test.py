"""GECO: the constraint by hand, and dual ascent in the multiplier alone."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import linear_gaussian_vae as linear
from vae_jax import config as config_lib
from vae_jax.objectives import geco
from vae_jax.training import optim

DUAL = linear.VAE.clone(auxiliary=geco.Multiplier())
GECO = functools.partial(geco.geco, kappa=0.5)


@pytest.mark.parametrize("violated", [False, True])
def test_geco_ascends_in_the_multiplier_alone(exact, slopes_of, violated):
  params, batch = exact
  kl = linear.kl_of(params, batch.image)
  if violated:
    brighter = jax.tree.map(lambda v: v + 1, params["decoder"])
    params = {**params, "decoder": brighter}
  dual = {**params, "auxiliary": {"log_value": jnp.float32(math.log(3))}}
  terms, slopes = linear.terms_and_slopes(GECO, dual, batch, vae=DUAL)
  error = np.asarray(terms.extras["squared_error"])
  constraint = error - math.prod(linear.SHAPE) * 0.5**2
  assert (constraint.mean() > 0) == violated
  np.testing.assert_allclose(terms.extras["constraint"], constraint, rtol=1e-3)
  np.testing.assert_allclose(terms.extras["lambda"], 3, rtol=1e-6)
  np.testing.assert_allclose(terms.rate, kl.sum(1), rtol=1e-4)
  np.testing.assert_allclose(terms.loss, terms.rate + 3 * constraint, rtol=1e-3)
  expected = slopes_of(params, batch, 0, 3, 1, 1)
  up = -3 * constraint.mean()
  expected["auxiliary"] = {"log_value": np.float32(up)}
  linear.assert_close(slopes, expected, rtol=3e-4)
  # One step of the run's own optimizer.
  c = config_lib.default()
  c.objective.name = "geco"
  optimizer = optim.optimizer(c, 10)
  updates, _ = optimizer.update(slopes, optimizer.init(dual), dual)
  moved = float(updates["auxiliary"]["log_value"])
  assert (moved > 0) == violated
  rate = c.optim.auxiliary.learning_rate
  np.testing.assert_allclose(abs(moved), rate, rtol=1e-3)


def test_multiplier_refuses_zero():
  with pytest.raises(config_lib.ConfigError, match="initial is 0.0"):
    geco.Multiplier(initial=0.0).init(jax.random.key(0))
