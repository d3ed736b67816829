"""Binarization: probabilities of pixels, and the keys that they follow."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_array_equal

from vae_jax.data import binarize

INDEX = jnp.arange(200, dtype=jnp.int32)


def _keys(seed: int) -> jax.Array:
  return jax.random.split(jax.random.key(seed), 200)


def test_probability_is_the_gray_level():
  levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  image = jnp.asarray(np.repeat(levels, 200, 0))
  total = np.zeros((16, 16, 1))
  for seed in range(20):
    drawn = binarize.binarize(image, INDEX, _keys(seed), mode="dynamic")
    assert set(np.unique(drawn)) <= {0, 255}
    total += np.asarray(drawn).astype(np.float64).sum(0) / 255
  share = (total / 4000).reshape(-1)
  expected = np.arange(256) / 255
  assert share[0] == 0 and share[255] == 1
  error = np.sqrt(expected * (1 - expected) / 4000)
  assert (np.abs(share - expected) <= 5 * error + 1e-9).all()
  assert abs((share - expected).mean()) < 0.002


def test_neighboring_pixels_are_independent_for_odd_sizes():
  image = jnp.full((200, 5, 5, 3), 128, jnp.uint8)
  drawn = binarize.binarize(image, INDEX, _keys(0), mode="dynamic")
  flat = np.asarray(drawn).reshape(200, -1) / 255 - 128 / 255
  correlation = (flat[:, 1:] * flat[:, :-1]).mean() / 0.25
  assert abs(correlation) < 5 / np.sqrt(flat[:, 1:].size)


def test_static_follows_the_index_and_dynamic_the_key():
  image = jnp.full((200, 4, 4, 1), 128, jnp.uint8)

  def run(mode, seed):
    return np.asarray(binarize.binarize(image, INDEX, _keys(seed), mode=mode))

  assert_array_equal(run("static", 0), run("static", 1))
  assert (run("dynamic", 0) != run("dynamic", 1)).mean() > 0.4
  assert_array_equal(run("none", 0), image)
