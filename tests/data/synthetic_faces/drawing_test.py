"""Drawings of faces: pure functions of their factors."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from vae_jax.data.synthetic_faces import drawing, factors


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"smile": 1.5}, "factor smile is 1.5; it must be from -1.0 to 1.0"),
    ({"hat": 9}, "factor hat is 9; it must be from 0 to 3"),
    ({"wings": 1}, "wings"),
  ],
)
def test_impossible_factors_are_refused(neutral, changes, message):
  with pytest.raises(ValueError, match=message):
    drawing.draw(neutral(**changes))
  image = drawing.draw(neutral())
  assert image.shape == (64, 64, 3) and image.dtype == np.uint8
  assert_array_equal(image, drawing.draw(neutral()))


@pytest.mark.parametrize("name", list(factors.FACTORS))
def test_each_factor_changes_the_image(neutral, name):
  base = neutral(
    hair_style="side_part" if name.startswith(("hair", "bangs")) else "crop",
    hat="cap" if name == "hat_hue" else "none",
    hair_greyness=0.0,
    head_turn=0.1,
  )
  factor = factors.FACTORS[name]
  if isinstance(factor, factors.Discrete):
    values = range(len(factor.names))
  elif name.endswith("_hue"):
    values = (0.0, 0.3, 0.6)
  else:
    values = np.linspace(factor.low, factor.high, 3).tolist()
  images = [drawing.draw({**base, name: value}).astype(int) for value in values]
  for i, first in enumerate(images):
    for second in images[:i]:
      # At least a dozen pixels, clearly.
      assert (np.abs(first - second).max(axis=2) > 12).sum() >= 12


@pytest.mark.parametrize("mouth_open", [0.0, 0.5, 1.0])
def test_smile_bends_the_mouth_and_nothing_else(neutral, mouth_open):
  plain = {"lipstick": 1, "lip_fullness": 1.0, "rosiness": 0.0}
  base = neutral(mouth_open=mouth_open, skin_tone=0.2, **plain)
  faces = [{**base, "smile": smile} for smile in np.linspace(-1, 1, 9)]
  images = np.stack([drawing.draw(face).astype(float) for face in faces])
  changed = np.ptp(images, axis=0).max(axis=2) > 0
  rows, columns = np.nonzero(changed)
  assert rows.min() >= 36 and rows.max() <= 52
  assert columns.min() >= 19 and columns.max() <= 44
  # Lipstick is far redder than skin, teeth and mouth, so it marks the lips.
  # Their curvature: the covariance of height and squared distance from the
  # axis, positive where the corners lie above the middle.
  y, x = np.mgrid[36:53, 18:46]
  square = (x - 31.5) ** 2
  bends = []
  for image in images:
    mouth = image[36:53, 18:46]
    redness = np.clip(mouth[:, :, 0] - mouth[:, :, 1] - 55, 0, None)
    weight = redness / redness.sum()
    centered = square - (weight * square).sum()
    bends.append(-(weight * centered * y).sum())
  assert np.all(np.diff(bends) > 0), bends
  assert bends[0] < 0 < bends[-1]
