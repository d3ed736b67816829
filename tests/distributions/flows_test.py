"""Flows against their Jacobians, and densities against their integral."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from vae_jax.config import ConfigError
from vae_jax.distributions import StandardNormal
from vae_jax.models import flow_nets, posteriors, priors

KEYS = jax.random.split(jax.random.key(3), 4)


def _no_encoder(images):
  raise AssertionError("only the vamp prior reads images")


def _draw(module, *inputs, size=0.5):
  """Variables away from the start, where couplings are the identity."""
  rng = np.random.default_rng(5)
  init = functools.partial(module.init, jax.random.key(0))
  variables = jax.eval_shape(lambda: init(*(inputs or (_no_encoder,))))
  return jax.tree.map(
    lambda v: jnp.asarray(size * rng.normal(size=v.shape), v.dtype), variables
  )


@functools.cache
def _prior(dim, layers, size=0.5):
  module = priors.Flow(dim, num_layers=layers, hidden=(8,))
  return module.apply(_draw(module, size=size), _no_encoder)


@functools.cache
def _posterior(dim, layers=2, count=4):
  module = posteriors.Iaf(dim, layers, (9,), context=3)
  features = jnp.linspace(-1, 1, 20).reshape(4, 5)
  return module.apply(_draw(module, features), features[:count])


@functools.partial(jax.jit, static_argnums=1)
def _call(distribution, method, z):
  return getattr(distribution, method)(z)


def _volumes(function, points):
  """log |det| of the Jacobian at each point, by autodiff."""
  one = jax.jacobian(lambda v: function(v[None])[0][0])
  return np.linalg.slogdet(jax.jit(jax.vmap(one))(points))[1]


def _integral(log_prob, side=161, width=9.0):
  ticks = np.linspace(-width, width, side, dtype=np.float32)
  grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
  density = np.exp(np.asarray(log_prob(jnp.asarray(grid)), np.float64))
  return density.sum() * (2 * width / (side - 1)) ** 2


def test_couplings_invert_and_count_their_volume():
  flow = _prior(5, 3)
  noise = jnp.asarray(np.random.default_rng(1).normal(size=(4, 5)), "f4")

  @jax.jit
  def run(noise):
    z, log_det = flow.forward(noise)
    return z, log_det, flow.inverse(z), flow.log_prob(z)

  z, log_det, (back, inverse_log_det), log_p = run(noise)
  assert np.abs(np.asarray(z - noise)).max(0).min() > 0.05
  assert_allclose(back, noise, rtol=1e-4, atol=1e-5)
  assert_allclose(inverse_log_det, -log_det, rtol=1e-4, atol=1e-5)
  assert_allclose(log_det, _volumes(flow.forward, noise), rtol=1e-4, atol=1e-5)
  expected = stats.norm.logpdf(noise).sum(1) - log_det
  assert_allclose(log_p, expected, rtol=1e-4)


def test_the_flow_prior_starts_as_the_standard_normal():
  module = priors.Flow(5, num_layers=3, hidden=(8,))
  normal = StandardNormal(5)

  @jax.jit
  def run():
    flow = module.init_with_output(jax.random.key(0), _no_encoder)[0]
    z = flow.sample(KEYS, 0.7)
    return z, normal.sample(KEYS, 0.7), flow.log_prob(z), normal.log_prob(z)

  ours, theirs, log_p, log_normal = run()
  assert_allclose(ours, theirs, rtol=1e-6)
  assert_allclose(log_p, log_normal, rtol=1e-6)


def test_log_scales_are_bounded():
  _, log_det = _call(_prior(2, 1, size=1e3), "forward", jnp.ones((1, 2)))
  assert_allclose(np.abs(log_det), 2.0, rtol=1e-6)


def test_flows_work_inside_transformations():
  flow, q = _prior(5, 3), _posterior(5)
  z, _ = _call(q, "sample_and_log_prob", KEYS)

  @jax.jit
  def run(keys):
    slope = jax.vmap(jax.grad(lambda v: flow.log_prob(v[None])[0]))(z)
    return slope, jax.vmap(q.sample_and_log_prob)(keys)

  slope, (many, log_q) = run(jnp.stack([KEYS, KEYS[::-1]]))
  assert np.isfinite(slope).all() and slope.shape == z.shape
  assert_allclose(many[0], z, rtol=1e-5)
  assert log_q.shape == (2, 4)


@pytest.mark.parametrize("dim, hidden", [(1, (4,)), (4, (3, 7)), (5, ())])
def test_made_is_autoregressive(dim, hidden):
  network = flow_nets.Made(hidden)
  z, context = jnp.ones((1, dim)), jnp.ones((1, 2))
  variables = _draw(network, z, context)

  def run(z, context):
    return jnp.stack(network.apply(variables, z[None], context[None]))[:, 0]

  of_z, of_context = jax.jit(jax.jacobian(run, (0, 1)))(z[0], context[0])
  for matrix in np.asarray(of_z):
    assert_array_equal(np.triu(matrix), 0)
    if len(hidden) == 1 or not hidden:
      assert (np.tril(matrix, -1) != 0).sum() == dim * (dim - 1) // 2
  # The first number depends on the context too.
  if hidden:
    assert (np.asarray(of_context) != 0).all()


def test_the_iaf_posterior_counts_its_volume_and_inverts():
  q = _posterior(5)

  @jax.jit
  def run(key):
    z, log_q = q.sample_and_log_prob(key)
    start = q.base.sample(key)
    return z, log_q, q.sample(key), start, q.forward(start)[1]

  z, log_q, again, start, log_det = run(KEYS)
  assert_allclose(again, z, rtol=1e-6)
  assert_allclose(_call(q, "log_prob", z), log_q, rtol=1e-4)
  back, inverse_log_det = _call(q, "inverse", z)
  assert_allclose(back, start, rtol=1e-4, atol=1e-5)
  assert_allclose(inverse_log_det, -log_det, rtol=1e-4)
  volume = _volumes(_posterior(5, count=1).forward, start[:1])
  assert_allclose(log_det[:1], volume, rtol=1e-4)
  mean = jax.jit(lambda: q.mean)()
  assert_allclose(_call(q, "inverse", mean)[0], q.base.mean, atol=1e-5)


def test_an_iaf_layer_by_hand():
  q = _posterior(5, layers=1)

  @jax.jit
  def run(key):
    start = q.base.sample(key)
    outputs = q.network(q.weights[0], start, q.context)
    return start, outputs, q.base.log_prob(start), q.sample_and_log_prob(key)

  start, (shift, logit), log_start, (z, log_q) = run(KEYS)
  gate = 1 / (1 + np.exp(-np.asarray(logit, np.float64)))
  assert_allclose(z, gate * start + (1 - gate) * shift, rtol=1e-4)
  assert_allclose(log_q, log_start - np.log(gate).sum(1), rtol=1e-5)


def test_densities_integrate_to_one():
  prior, q = _prior(2, 3), _posterior(2, count=1)

  def log_q(grid):
    wide = lambda v: jnp.repeat(v, len(grid), 0)
    many = q.replace(base=jax.tree.map(wide, q.base), context=wide(q.context))
    return _call(many, "log_prob", grid)

  for log_prob in (functools.partial(_call, prior, "log_prob"), log_q):
    assert_allclose(_integral(log_prob), 1, atol=1e-3)


def test_saturated_gates_stay_finite():
  q = _posterior(5)
  for size in (-60.0, 60.0):
    network = lambda w, z, c, s=size: (jnp.ones_like(z), jnp.full_like(z, s))
    z, log_q = q.replace(network=network).sample_and_log_prob(KEYS)
    assert np.isfinite(z).all() and np.isfinite(log_q).all()


def test_flows_have_no_closed_form_of_the_kl():
  q = _posterior(2)
  normal = StandardNormal(2)
  assert not q.has_kl(normal)
  with pytest.raises(ConfigError, match="InverseAutoregressive"):
    q.kl(normal)
  assert not q.base.has_kl(_prior(2, 1))


def test_impossible_flows_are_refused():
  with pytest.raises(ConfigError, match="latent_dim is 1"):
    priors.Flow(1).init(jax.random.key(0), _no_encoder)
  with pytest.raises(ConfigError, match="args.num_layers is 0"):
    priors.Flow(2, num_layers=0).init(jax.random.key(0), _no_encoder)
  with pytest.raises(ConfigError, match="args.context is 0"):
    posteriors.Iaf(2, context=0).init(jax.random.key(0), jnp.ones((1, 3)))
