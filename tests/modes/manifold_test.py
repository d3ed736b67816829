"""`--mode=manifold`: codes of the grid against quantiles."""

import numpy as np
import pytest
from scipy import stats


def test_grid_is_at_quantiles_of_the_prior(make, draw):
  model = make(model__latent_dim=2)
  _, arrays = draw("manifold", model, steps=3)
  q = stats.norm.ppf(5 / 6)
  expected = [[x, y] for y in (q, 0, -q) for x in (-q, 0, q)]
  np.testing.assert_allclose(arrays["codes"], expected, atol=1e-6)
  np.testing.assert_array_equal(arrays["images"], model.decode(arrays["codes"]))


def test_grid_of_deterministic_codes_is_at_their_quantiles(make, draw):
  model = make(model__latent_dim=2, model__posterior__name="deterministic")
  _, arrays = draw("manifold", model, steps=2)
  source = model.experiment.source("validation")
  codes = model.encode(source.fetch(np.arange(len(source)))["image"])
  (x0, y0), (x1, y1) = np.quantile(codes, [0.25, 0.75], axis=0)
  np.testing.assert_allclose(
    arrays["codes"], [[x0, y1], [x1, y1], [x0, y0], [x1, y0]], rtol=1e-4
  )


@pytest.mark.parametrize(
  "flags, message",
  [
    ({}, "config.model.latent_dim=3, for which there is"),
    ({"steps": -4}, "--steps is -4"),
  ],
)
def test_wrong_flags_are_refused(make, refusal, flags, message):
  assert message in refusal("manifold", make(), **flags)


def test_conditional_model_is_refused(make, refusal, conditional):
  model = make(model__latent_dim=2, **conditional)
  assert "needs a label with each" in refusal("manifold", model)
