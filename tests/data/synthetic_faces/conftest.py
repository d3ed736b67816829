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
    values = {
      name: 0 if hasattr(factor, "names") else 0.5 * (factor.low + factor.high)
      for name, factor in factors.FACTORS.items()
    }
    for name, value in changes.items():
      if isinstance(value, str):
        value = factors.FACTORS[name].names.index(value)
      values[name] = value
    return {"jaw": 0.5} | values

  return make
