"""HTML: pictures are whole multiples of their pixels."""

import numpy as np

from vae_jax.modes.explore import markup


def test_pictures_grow_by_whole_multiples():
  rules = markup.sizes((28, 28, 1))
  assert "--big: 308px" in rules and "--phone: 168px" in rules
  assert "--big: 320px" in markup.sizes((64, 64, 3))
  assert "--big: 256px" in markup.sizes((128, 128, 3))
  picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  large = markup.enlarged(picture)
  assert large.shape == (1024, 1024, 3)
  np.testing.assert_array_equal(large[::512, ::512], picture)
  np.testing.assert_array_equal(large[511::512, 511::512], picture)
