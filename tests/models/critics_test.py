"""Critics against NumPy and layers of Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.support.networks import normal, random_variables
from vae_jax.config import ConfigError
from vae_jax.models import critics


@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_latent_critic_is_a_loop_over_layers(slope):
  critic = critics.LatentCritic(hidden=(4, 3), negative_slope=slope)
  z = normal(5, 2)
  variables = random_variables(critic, z, scale=0.5)
  x = np.asarray(z)
  for i in range(3):
    layer = variables["params"][f"Dense_{i}"]
    x = x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    if i < 2:
      x = np.where(x > 0, x, slope * x)
  np.testing.assert_allclose(critic.apply(variables, z), x[:, 0], rtol=1e-5)


def test_sizes_are_the_published_ones():
  def sizes(critic, shape):
    x = jnp.zeros((1, *shape))
    tree = jax.eval_shape(critic.init, jax.random.key(0), x)["params"]
    return [v["kernel"].shape for v in tree.values() if "kernel" in v]

  ends = [(10, 1000)] + [(1000, 1000)] * 5 + [(1000, 1)]
  assert sizes(critics.LatentCritic(), (10,)) == ends
  ends = [(8, 512)] + [(512, 512)] * 3 + [(512, 1)]
  assert sizes(critics.WaeCritic(), (8,)) == ends
  channels = ((3, 32), (32, 128), (128, 256), (256, 256))
  ends = [(5, 5, *c) for c in channels] + [(8 * 8 * 256, 512), (512, 1)]
  assert sizes(critics.ImageCritic(), (64, 64, 3)) == ends


def test_image_critic_equals_layers_of_flax():
  class Other(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.relu(nn.Conv(3, (3, 3))(x))
      x = features = nn.Conv(16, (3, 3), strides=(2, 2))(x)
      x = nn.GroupNorm(8, epsilon=1e-5)(x)
      x = nn.relu(x).reshape(2, -1)
      x = nn.relu(nn.Dense(6)(x))
      return nn.Dense(1)(x)[:, 0], features.reshape(2, -1)

  critic = critics.ImageCritic(
    channels=(3, 16), kernel_size=3, hidden=6, feature_layer=2
  )
  x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5, 6, 2)))
  variables = random_variables(critic, x, scale=0.5)
  ours, expected = (jax.jit(m.apply)(variables, x) for m in (critic, Other()))
  for a, b in zip(ours, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_features_come_from_the_chosen_layer():
  x = jnp.zeros((2, 5, 6, 1))
  for layer, count in ((1, 5 * 6 * 2), (2, 3 * 3 * 3)):
    critic = critics.ImageCritic(channels=(2, 3), feature_layer=layer)
    run = critic.init_with_output
    (_, features), _ = jax.eval_shape(run, jax.random.key(0), x)
    assert features.shape == (2, count)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"feature_layer": 5}, "feature_layer is 5; allowed are 1 to 4"),
    ({"feature_layer": 0}, "feature_layer is 0; allowed are 1 to 4"),
    ({"norm": "batch"}, "norm is 'batch'; allowed are group, none"),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  critic = critics.ImageCritic(**settings)
  with pytest.raises(ConfigError, match=message):
    critic.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
