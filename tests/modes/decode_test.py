"""`--mode=decode`: images of codes."""

import numpy as np
import pytest

from tests.modes.conftest import SHAPE


def test_images_are_those_of_the_codes(make, draw, tmp_path):
  model = make()
  _, arrays = draw("decode", model, latent="0.5,-1,2")
  code = np.array([[0.5, -1, 2]], np.float32)
  np.testing.assert_array_equal(arrays["codes"], code)
  np.testing.assert_array_equal(arrays["images"], model.decode(code))
  np.save(tmp_path / "codes.npy", np.repeat(code, 30, 0))
  _, arrays = draw("decode", model, latent=str(tmp_path / "codes.npy"))
  assert arrays["images"].shape == (30, *SHAPE)


@pytest.mark.parametrize(
  "flags, message",
  [
    ({}, "--mode=decode needs --latent: 3 numbers"),
    ({"latent": "1,2"}, "are 2 numbers; it must be 3 for each code"),
  ],
)
def test_wrong_flags_are_refused(make, refusal, flags, message):
  assert message in refusal("decode", make(), **flags)


def test_conditional_model_is_refused(make, refusal, conditional):
  model = make(model__latent_dim=2, **conditional)
  message = refusal("decode", model, latent="1,2")
  assert "needs a label with each" in message
