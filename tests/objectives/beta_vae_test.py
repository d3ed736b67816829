"""The schedules of the weight of the rate."""

import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.objectives.beta_vae import kl_weight


@pytest.mark.parametrize(
  "schedule, expected",
  [
    ("constant", [2, 2, 2, 2, 2, 2, 2]),
    ("linear", [0, 0.2, 0.5, 1, 1.98, 2, 2]),
    # Two cycles of 50 steps: up over 25, flat over 25.
    ("cyclical", [0, 0.8, 2, 0, 2, 2, 2]),
    # Two stairs, at 50 and at 100.
    ("steps", [0, 0, 0, 1, 1, 2, 2]),
  ],
)
def test_kl_weight_has_its_values_by_hand(schedule, expected):
  warmup_steps = 0 if schedule == "constant" else 100
  weights = [
    kl_weight(jnp.int32(s), 2.0, schedule, warmup_steps, 2)
    for s in (0, 10, 25, 50, 99, 100, 1000)
  ]
  np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_kl_weight_stays_at_its_end():
  """step * cycles does not fit 32 bits long after the warm-up."""
  for schedule in ("steps", "cyclical"):
    assert kl_weight(jnp.int32(3_000_000), 2.0, schedule, 1000, 1000) == 2.0
