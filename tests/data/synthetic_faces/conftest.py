"""Faces drawn for several tests."""

import pytest

from vae_jax.data.synthetic_faces import factors


@pytest.fixture(scope="session")
def samples():
  """Factors of the first 2,000 training faces."""
  return [factors.sample_factors("train", i) for i in range(2000)]


@pytest.fixture(scope="session")
def neutral():
  """Returns a plain frontal face, lit from the front, with changed factors.

  Names of discrete values are replaced by their positions.
  """

  def make(**changes):
    values = changes.copy()
    for name, factor in factors.FACTORS.items():
      if not isinstance(factor, factors.Discrete):
        values.setdefault(name, 0.5 * (factor.low + factor.high))
      elif isinstance(values.setdefault(name, 0), str):
        values[name] = factor.names.index(values[name])
    return values

  return make
