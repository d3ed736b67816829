"""Mirror images and shifts: by the key of each example, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.support.pictures import noise
from vae_jax.data import augment

COUNT = 400
IMAGE = jnp.asarray(noise(COUNT, 7, 5, 2))
KEYS = jax.random.split(jax.random.key(0), COUNT)


@pytest.mark.parametrize("flip, shift", [(True, 0), (False, 2), (True, 9)])
def test_each_image_is_one_of_those_that_chance_may_give(flip, shift):
  result = np.asarray(augment.augment(IMAGE, KEYS, flip=flip, shift=shift))
  moves = range(-shift, shift + 1)
  seen = []
  for image, found in zip(np.asarray(IMAGE), result, strict=True):
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), "edge")
    for mirrored in (False, True) if flip else (False,):
      source = padded[:, ::-1] if mirrored else padded
      for down in moves:
        for right in moves:
          top, left = shift - down, shift - right
          if (source[top : top + 7, left : left + 5] == found).all():
            seen.append((mirrored, down, right))
  # Edges repeat, so that images moved far may equal each other.
  assert len({*seen}) > COUNT / 10 if shift > 2 else len(seen) == COUNT
  cells = (2 if flip else 1) * len(moves) ** 2
  if shift <= 2:
    counts = np.unique(np.array(seen), axis=0, return_counts=True)[1]
    assert len(counts) == cells
    # Five standard deviations of a count.
    assert np.abs(counts - COUNT / cells).max() < 5 * (COUNT / cells) ** 0.5


def test_an_image_follows_its_own_key_alone():
  whole = augment.augment(IMAGE, KEYS, flip=True, shift=2)
  part = augment.augment(IMAGE[5:9], KEYS[5:9], flip=True, shift=2)
  assert_array_equal(part, whole[5:9])
  assert_array_equal(augment.augment(IMAGE, KEYS, flip=False, shift=0), IMAGE)
