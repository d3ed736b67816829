"""`--mode=interpolate`: paths and labels against the model."""

import numpy as np
import pytest

from tests.modes.conftest import SHAPE
from vae_jax.latents import interpolation


def test_paths_go_from_image_to_image(make, draw, fetch):
  model = make()
  _, arrays = draw("interpolate", model, images="data:test:4,2,7,1", steps=5)
  data = fetch(model, 4, 2, 7, 1)["image"]
  assert arrays["images"].shape == (2, 2, 5, *SHAPE)
  np.testing.assert_array_equal(arrays["originals"], data.reshape(2, 2, *SHAPE))
  np.testing.assert_array_equal(arrays["t"], [0, 0.25, 0.5, 0.75, 1])
  codes = model.encode(data)
  ends = model.decode(codes)
  for pair in range(2):
    a, b = codes[2 * pair : 2 * pair + 2]
    paths = (interpolation.linear, interpolation.spherical)
    for kind, path in enumerate(paths):
      row = arrays["images"][pair, kind]
      np.testing.assert_array_equal(row[0], ends[2 * pair])
      np.testing.assert_array_equal(row[-1], ends[2 * pair + 1])
      np.testing.assert_array_equal(row, model.decode(path(a, b, arrays["t"])))
  _, arrays = draw("interpolate", model)
  assert arrays["images"].shape == (4, 2, 9, *SHAPE)


def test_conditional_model_receives_nearer_label(
  make, draw, fetch, conditional
):
  model = make(**conditional)
  labels = fetch(model, *range(32))["label"]
  one, other = np.argmin(labels), np.argmax(labels)
  _, arrays = draw(
    "interpolate", model, images=f"data:test:{one},{other}", steps=4
  )
  for kind in range(2):
    codes = arrays["codes"][0, kind]
    decoded = model.decode(codes, np.array([0, 0, 1, 1], np.int32))
    np.testing.assert_array_equal(arrays["images"][0, kind], decoded)
    unlike = model.decode(codes, np.array([1, 1, 0, 0], np.int32))
    assert (unlike != decoded).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"images": "data:test:0"}, "--images are 1, and must be"),
    ({"images": "data:test:0-4"}, "--images are 5, and must"),
    ({"steps": 1}, "--steps is 1; it must be from 2 to 100"),
  ],
)
def test_wrong_flags_are_refused(make, refusal, flags, message):
  assert message in refusal("interpolate", make(), **flags)
