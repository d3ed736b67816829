"""Means, bits per dimension and the rows on disk."""

import math

import numpy as np
import pytest

from vae_jax.training import metrics


@pytest.mark.parametrize(
  "nats, kind, bits",
  [
    (12 * math.log(2), {"is_density": False}, 1),
    # A uniform density on [0, 1] is a uniform choice among 255 gray levels.
    (0.0, {"is_density": True}, math.log2(255)),
    # With noise between 256 levels it is one among those: exactly 8 bits.
    (0.0, {"is_density": True, "dequantized": True}, 8),
  ],
)
def test_bits_per_dim_by_hand(nats, kind, bits):
  assert metrics.bits_per_dim(nats, 12, **kind) == pytest.approx(bits)


def test_masked_means_weigh_examples_not_batches():
  means = metrics.MaskedMeans()
  means.add({"loss": np.asarray(30.0), "count": np.asarray(3.0)})
  means.add({"loss": np.asarray(2.0), "count": np.asarray(1.0)})
  assert means.result() == {"loss": 8.0, "num_examples": 4}


def test_step_means_leave_skipped_steps_out():
  means = metrics.StepMeans()
  means.add({"loss": np.array([1.0, np.nan]), "skipped": np.array([0, 1])})
  means.add({"loss": np.array([3.0]), "skipped": np.array([0])})
  assert means.result() == {"loss": 2.0, "skipped": 1, "steps": 3}
  assert means.result() == {}
  means.add({"loss": np.array([np.inf]), "skipped": np.array([1])})
  assert means.result() == {"loss": None, "skipped": 1, "steps": 1}
