"""Nonlinear directions against an ODE solver, and on a saddle."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate

from tests.support.tiny import assert_trees_equal
from vae_jax.config import ConfigError
from vae_jax.latents import nonlinear_directions

RNG = np.random.RandomState(0)
# A saddle, which no line parts, and a half plane.
CODES = RNG.randn(4000, 3).astype(np.float32)
PRESENT = np.stack(
  [CODES[:, 0] * CODES[:, 1] > 0, CODES[:, 2] > 0.5], axis=1
).astype(np.int32)
NAMES = ("saddle", "half")


@pytest.fixture(scope="module")
def fitted():
  noise = np.full(3, 0.05, np.float32)
  return nonlinear_directions.fit(CODES, noise, PRESENT, NAMES, step=4)


def log_odds(fit, code):
  """The mean of the networks, one matrix product after another."""
  x = (code - fit.scale[0]) / fit.scale[1]
  total = 0
  params = fit.params["params"]
  for k in range(nonlinear_directions._NETWORKS):
    h = x
    for i in range(2):
      layer = params[f"Dense_{i}"]
      h = h @ layer["kernel"][k].astype(float) + layer["bias"][k]
      h = h / (1 + np.exp(-h))
    last = params["Dense_2"]
    total = total + h @ last["kernel"][k].astype(float) + last["bias"][k]
  return total / nonlinear_directions._NETWORKS


def velocity(fit, code, weights):
  """The right-hand side, by central differences."""
  e = 1e-4 * np.eye(3)
  gradients = np.stack(
    [(log_odds(fit, code + d) - log_odds(fit, code - d)) / 2e-4 for d in e],
    axis=1,
  )
  moved = np.zeros(3)
  for name, weight in weights.items():
    a = NAMES.index(name)
    g = gradients[a]
    moved += weight * fit.gap[a] * g / max(g @ g, fit.floor[a])
  return moved


@pytest.mark.parametrize(
  "weights", [{"saddle": 1.0}, {"half": -1.0}, {"half": 0.5, "saddle": -0.5}]
)
def test_path_solves_its_equation(fitted, weights):
  begin = np.array([1.2, 0.8, 0.3], np.float32)
  moved = fitted.walk(begin[None], weights, np.array([0.2]))[0, 0]
  solved = integrate.solve_ivp(
    lambda _, z: velocity(fitted, z, weights), (0, 0.2), begin, rtol=1e-6
  ).y[:, -1]
  assert np.linalg.norm(solved - begin) > 0.05
  assert_allclose(moved, solved, atol=0.15 * np.linalg.norm(solved - begin))


def test_gap_is_the_difference_of_mean_log_odds(fitted):
  odds = log_odds(fitted, CODES)
  for a in range(2):
    hit = PRESENT[:, a] > 0
    wanted = odds[hit, a].mean() - odds[~hit, a].mean()
    assert_allclose(fitted.gap[a], wanted, rtol=1e-3)
  assert (fitted.gap > 2).all()


def test_path_enters_a_saddle_as_no_line_can(fitted):
  codes = CODES[PRESENT[:, 0] == 0][:100]
  walked = fitted.walk(codes, {"saddle": 1.0}, np.array([-0.5, 0.0, 1.5]))
  share = (walked[..., 0] * walked[..., 1] > 0).mean(axis=0)
  assert share[0] == 0 and share[1] == 0 and share[2] > 0.9


def test_zero_strength_or_weight_changes_nothing(fitted):
  strengths = np.array([-1.0, 0.0, 1.0])
  moved = fitted.walk(CODES[:5], {"saddle": 1.0}, strengths)
  assert_array_equal(moved[:, 1], CODES[:5])
  assert not np.array_equal(moved[:, 0], CODES[:5])
  for weights in ({"saddle": 0.0}, {}):
    moved = fitted.walk(CODES[:5], weights, strengths)
    assert_array_equal(moved, np.repeat(CODES[:5, None], 3, axis=1))


@pytest.mark.parametrize("far", [1e6, np.nan, np.inf])
def test_too_large_strength_is_refused(fitted, far):
  with pytest.raises(ConfigError, match="leads too far"):
    fitted.walk(CODES[:1], {"saddle": 1.0}, np.array([0.0, far]))


def test_paths_of_codes_are_independent(fitted):
  strengths = np.array([-1.0, 1.0])
  together = fitted.walk(CODES[:4], {"half": 1.0}, strengths)
  for i in range(4):
    alone = fitted.walk(CODES[i : i + 1], {"half": 1.0}, strengths)
    assert_allclose(together[i], alone[0], atol=1e-4)


def test_saved_directions_are_read_back(fitted, tmp_path):
  nonlinear_directions.save(fitted, tmp_path / "a.npz")
  read = nonlinear_directions.load(tmp_path / "a.npz")
  assert read.names == NAMES and read.step == 4
  assert_trees_equal(read.params, fitted.params)
  nonlinear_directions.save(read, tmp_path / "b.npz")
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
