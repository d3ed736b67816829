"""Canvas: running means, limits of y, and colors."""

import numpy as np
import pytest

from vae_jax.figures import canvas


@pytest.mark.parametrize("n", [40, 10_000])
def test_limits_hold_the_curve_and_not_its_outliers(n):
  step = np.arange(n, dtype=np.float64)
  value = 100 + np.sin(step)
  value[: n // 20] = 1e6
  value[n // 2] = 1e9
  low, high = canvas.robust_limits([np.stack([step, value])])
  assert 98 < low < 99.1
  assert 100.9 < high < 120


def test_limits_ignore_the_first_steps_of_a_constant():
  value = np.full(100, 2.0)
  value[:5] = 1e6
  low, high = canvas.robust_limits([np.stack([np.arange(100.0), value])])
  assert 1.5 < low < 2 < high < 2.5


def test_limits_hold_every_curve():
  step = np.arange(100.0)
  curves = [np.stack([step, step]), np.array([[50.0], [200.0]])]
  low, high = canvas.robust_limits(curves)
  assert low < 6 and high > 200


def test_running_mean_is_centered_and_shrinks_at_the_ends():
  values = np.random.default_rng(0).normal(size=100)
  mean = canvas.running_mean(values, (-9.0, 9.0))
  expected = [values[max(i - 2, 0) : i + 3].mean() for i in range(100)]
  np.testing.assert_allclose(mean, expected, rtol=1e-12)


def test_running_mean_survives_an_exploding_step():
  values = np.full(1000, 100.0)
  values[500] = 1e30
  mean = canvas.running_mean(values, (99.0, 101.0))
  np.testing.assert_allclose(mean, 100, atol=0.1)


@pytest.mark.parametrize("classes", [1, 10, 17, 40])
def test_classes_have_distinct_colors(classes):
  assert len(np.unique(canvas.palette(classes), axis=0)) == classes
