"""Likelihoods read the outputs of networks, saturated ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.networks import random_variables
from tests.support.tiny import tiny_config
from vae_jax import distributions
from vae_jax.config import ConfigError
from vae_jax.models import likelihoods
from vae_jax.training import build

DISCRETE = [
  "categorical256",
  "discretized_logistic",
  "discretized_logistic_mixture",
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["laplace", "continuous_bernoulli", *DISCRETE])
def test_models_with_saturated_outputs_stay_finite(name, channels):
  c = tiny_config("/nowhere", model__likelihood__name=name)
  if name.endswith("mixture"):
    c.model.likelihood.args.num_mixtures = 2
  vae = build.model(c, (8, 8, channels), train=True)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.integers(0, 256, (2, 8, 8, channels)), jnp.uint8)
  keys = jax.random.split(jax.random.key(0), 2)
  params = random_variables(vae, image, keys, scale=0.2)["params"]
  last = params["decoder"]["Dense_1"]
  # Saturated: networks now and then give such outputs in training.
  last["bias"] += 50 * rng.choice(np.float32([-1, 0, 1]), last["bias"].shape)
  per_pixel = {
    "categorical256": 256 * channels,
    "discretized_logistic": 2 * channels,
    "discretized_logistic_mixture": {1: 6, 3: 20}[channels],
  }
  assert last["bias"].size == 64 * per_pixel.get(name, channels)

  @jax.jit
  def run(params):
    def loss(params):
      z = (jnp.ones((2, 3)),)
      likelihood = nn.apply(lambda vae: vae.decode(z), vae)({"params": params})
      log_p = likelihood.log_prob(image)
      return log_p.sum(), (log_p, likelihood.mean)

    return jax.grad(loss, has_aux=True)(params)

  gradients, (log_p, mean) = run(params)
  assert np.isfinite(log_p).all() and 0 <= mean.min() and mean.max() <= 1
  assert all(np.isfinite(v).all() for v in jax.tree.leaves(gradients))
  assert np.abs(gradients["decoder"]["Dense_1"]["bias"]).max() > 0.01


def test_scales_have_a_lower_bound():
  outputs = jnp.array([0.2, -30.0]).reshape(1, 1, 1, 2)
  single = likelihoods.DiscretizedLogistic().apply({}, outputs)
  assert single.location == jnp.float32(0.2) and single.log_scale == -7
  outputs = jnp.array([0.0, 0.2, -30.0]).reshape(1, 1, 1, 3)
  mixture = likelihoods.DiscretizedLogisticMixture(1, 1).apply({}, outputs)
  assert mixture.location == jnp.float32(0.2) and mixture.log_scale == -7


def test_learned_deviation_has_a_lower_bound_and_can_rise_again():
  def log_sigma(value):
    variables = {"params": {"log_sigma": jnp.float32(value)}}
    outputs = jnp.zeros((1, 1, 1, 1))
    module = likelihoods.GaussianLearned()
    return module.apply(variables, outputs).log_sigma

  least = np.log(distributions.MIN_SIGMA)
  for value in (0.0, -3.0, least + 1.001):
    assert log_sigma(value) == jnp.float32(value)
  values = [float(log_sigma(least + v)) for v in (1, 0.5, 0, -2, -5, -1000)]
  assert values == sorted(values, reverse=True)
  assert values[-1] == pytest.approx(least, rel=1e-6)
  slope = jax.jit(jax.grad(log_sigma))
  assert slope(least + 1.001) == 1
  assert slope(least) == pytest.approx(np.exp(-1), rel=1e-5)
  with pytest.raises(
    ConfigError, match="sigma is 0.003; it must be above 0.00"
  ):
    likelihoods.GaussianLearned(0.003).init({}, jnp.zeros((1, 1, 1, 1)))


@pytest.mark.parametrize(
  "name, argument, value",
  [
    *((name, "bits", 9) for name in DISCRETE),
    ("discretized_logistic", "bits", 0),
    ("discretized_logistic_mixture", "num_mixtures", 0),
  ],
)
def test_impossible_settings_are_refused(name, argument, value):
  c = tiny_config("/nowhere", model__likelihood__name=name)
  c.model.likelihood.args[argument] = value
  with pytest.raises(ConfigError, match=rf"likelihood\.args\.{argument} is"):
    build.model(c, (8, 8, 1), train=True)
