"""The flow that is fitted to codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support.tiny import assert_trees_equal
from vae_jax.config import ConfigError
from vae_jax.latents import flow, gaussian_mixture


def _codes(count):
  """A bent band, which no normal resembles: z2 = z1^2 + noise."""
  rng = np.random.default_rng(0)
  first = rng.normal(size=count)
  second = first**2 + 0.3 * rng.normal(size=count)
  return np.stack([first, second], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def fitted():
  codes = _codes(1500)
  return codes, flow.fit(codes[:1000], seed=0)


def _mean(kind, arrays, codes):
  values = jax.jit(kind.build(arrays).log_prob)(jnp.asarray(codes))
  return np.mean(np.asarray(values, np.float64))


def test_flow_bends_to_the_codes(fitted):
  codes, (arrays, report) = fitted
  normal, _ = gaussian_mixture.fit(codes[:1000], seed=0, components=1)
  unseen = codes[1000:]
  # Entropy of the band: that of two normals.
  best = -np.log(2 * np.pi * np.e) - np.log(0.3)
  value = _mean(flow, arrays, unseen)
  assert _mean(gaussian_mixture, normal, unseen) < best - 0.5
  assert best - 0.2 < value < best + 0.1
  assert report["epochs"] == len(report["held_out_log_likelihood"]) - 1


def test_best_weights_are_kept(fitted):
  codes, (arrays, report) = fitted
  scores = report["held_out_log_likelihood"]
  held_out = codes[:1000][np.random.default_rng(0).permutation(1000)[:100]]
  assert _mean(flow, arrays, held_out) == pytest.approx(max(scores), abs=1e-5)
  # The first is that of the normal, and no later one is worse than it.
  assert max(scores) > scores[0]
  patience = report["epochs"] - int(np.argmax(scores))
  assert patience == flow._PATIENCE or report["epochs"] == flow._EPOCHS


@jax.jit
def _log_prob(arrays, codes):
  return flow.build(arrays).log_prob(codes)


def test_density_integrates_to_one(fitted):
  _, (arrays, _) = fitted
  x = np.linspace(-6, 6, 241, dtype=np.float32)
  y = np.linspace(-8, 24, 641, dtype=np.float32)
  grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
  values = np.exp(np.asarray(_log_prob(arrays, grid), np.float64))
  assert values.sum() * 0.05 * 0.05 == pytest.approx(1, abs=5e-3)


def test_draws_follow_the_codes_and_the_temperature(fitted):
  codes, (arrays, _) = fitted
  density = flow.build(arrays)
  keys = jax.random.split(jax.random.key(0), 4000)
  sample = jax.jit(density.sample)
  draws = np.asarray(sample(keys, 1.0))
  assert abs(np.mean(draws[:, 1] - draws[:, 0] ** 2)) < 0.15
  assert np.std(draws[:, 1] - draws[:, 0] ** 2) < 0.6
  # At 0 the noise is 0, and all draws are the image of it.
  middle = np.asarray(sample(keys[:3], 0.0))
  assert_array_equal(middle, np.tile(middle[:1], (3, 1)))


def test_same_seed_gives_the_same_bits(monkeypatch):
  monkeypatch.setattr(flow, "_EPOCHS", 2)
  codes = _codes(300)
  first, second, other = (flow.fit(codes, seed=s)[0] for s in (1, 1, 2))
  assert_trees_equal(first, second)
  assert (first["coupling_0"]["Dense_0"]["kernel"]
          != other["coupling_0"]["Dense_0"]["kernel"]).any()  # fmt: skip


def test_one_latent_is_refused():
  with pytest.raises(ConfigError, match="latent_dim is 1; the density flow"):
    flow.fit(np.zeros((5, 1), np.float32), seed=0)
