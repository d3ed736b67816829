"""Learning curves: missing values, few values, and two losses."""

import numpy as np
import pytest

from tests.figures.pictures import metric_rows
from vae_jax import figures


def test_loss_curves_skip_missing_values():
  rows = metric_rows()
  holes = [
    {"step": 7, "split": "train", "neg_elbo": None, "loss": None},
    {"step": 8, "split": "train", "rate": float("nan")},
    {"step": None, "split": "train", "rate": 1e9},
    {"split": "validation", "rate": 1e9},
    {"step": 9, "split": "test", "rate": 1e9},
    {"step": 9, "rate": 1e9},
    {},
  ]
  np.testing.assert_array_equal(
    figures.loss_curves(rows + holes), figures.loss_curves(rows)
  )


@pytest.mark.parametrize("steps_per_epoch", [None, 0.5, 468.75])
@pytest.mark.parametrize(
  "rows",
  [
    [{"step": 3, "split": "train", "loss": 1.0}],
    [{"step": 3, "split": "validation", "neg_elbo": 1.0, "loss": 2.0}],
    [{"step": i, "split": "train", "rate": 0.0} for i in range(50)],
  ],
)
def test_loss_curves_draw_few_values(rows, steps_per_epoch):
  picture = figures.loss_curves(rows, steps_per_epoch=steps_per_epoch)
  assert picture.min() < 64


def test_loss_is_drawn_only_where_it_differs_from_neg_elbo():
  orange = np.array([0xC2, 0x59, 0x0C])
  rows = metric_rows()
  weighted = [row | {"loss": row["loss"] + 3 * row["rate"]} for row in rows]
  assert not np.any(np.all(figures.loss_curves(rows) == orange, axis=-1))
  assert np.any(np.all(figures.loss_curves(weighted) == orange, axis=-1))
