"""Factors of the drawn faces: their distributions and their attributes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vae_jax.data.synthetic_faces import factors


def test_factors_are_independent(samples):
  names = list(factors.FACTORS)
  table = np.array([[sample[name] for name in names] for sample in samples])
  correlation = np.corrcoef(table, rowvar=False) - np.eye(len(names))
  # 496 pairs with standard deviation 1/sqrt(2000) = 0.022 each.
  assert np.abs(correlation).max() < 0.1
  assert abs(correlation.std() - 2000**-0.5) < 0.005


def test_factors_follow_their_distributions(samples):
  for name, factor in factors.FACTORS.items():
    values = np.array([sample[name] for sample in samples])
    if isinstance(factor, factors.Discrete):
      assert sum(factor.weights) == pytest.approx(1)
      shares = np.bincount(values, minlength=len(factor.names)) / len(values)
      assert_allclose(shares, factor.weights, atol=0.05)
    else:
      # E[u^p] = 1 / (p + 1).
      mean = factor.low + (factor.high - factor.low) / (factor.power + 1)
      assert values.mean() == pytest.approx(mean, abs=0.06)
      assert factor.low <= values.min() and values.max() <= factor.high
      assert np.array_equal(values, values.astype(np.float32))


def test_samples_are_pure_and_splits_disjoint(samples):
  assert samples[7] == factors.sample_factors("train", 7)
  for split in ("validation", "test"):
    samples = samples + [factors.sample_factors(split, i) for i in range(2000)]
  assert len({tuple(sample.values()) for sample in samples}) == 6000


@pytest.mark.parametrize(
  "split, index, message",
  [("dev", 0, "split is 'dev'"), ("train", -1, "index is -1")],
)
def test_unknown_positions_are_refused(split, index, message):
  with pytest.raises(ValueError, match=message):
    factors.sample_factors(split, index)


@pytest.mark.parametrize(
  "changes, expected",
  [
    ({"smile": 0.5}, {"Smiling": True}),
    ({"smile": 0.0}, {"Smiling": False}),
    ({"mouth_open": 0.0}, {"Mouth_Slightly_Open": False}),
    (
      {"hair_style": "bald", "hair_colour": 0.1, "bangs": "yes"},
      {"Bald": True, "Black_Hair": False, "Bangs": False},
    ),
    ({"hair_style": "bald", "hat": "cap"}, {"Bald": False}),
    (
      {"hair_style": "crop", "hair_colour": 0.9, "hair_greyness": 0.0},
      {"Blond_Hair": True, "Gray_Hair": False, "Bald": False},
    ),
    (
      {"hair_style": "crop", "hair_colour": 0.9, "hair_greyness": 0.9},
      {"Blond_Hair": False, "Gray_Hair": True},
    ),
    ({"hair_style": "curly"}, {"Wavy_Hair": True, "Straight_Hair": False}),
    ({"beard": "goatee"}, {"Goatee": True, "No_Beard": False}),
    ({"moustache": "yes"}, {"Mustache": True, "No_Beard": True}),
    ({"glasses": "sun"}, {"Eyeglasses": True}),
    ({"hat": "brim"}, {"Wearing_Hat": True}),
    ({"skin_tone": 0.0}, {"Pale_Skin": True}),
  ],
)
def test_attributes_follow_factors(neutral, changes, expected):
  attributes = factors.attributes(neutral(**changes))
  assert tuple(attributes) == factors.ATTRIBUTES
  assert {name: attributes[name] for name in expected} == expected


def test_no_attribute_is_rare_or_constant(samples):
  table = [factors.attributes(sample) for sample in samples]
  for name in factors.ATTRIBUTES:
    assert 0.02 < np.mean([row[name] for row in table]) < 0.85, name
