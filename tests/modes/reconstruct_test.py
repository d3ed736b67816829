"""`--mode=reconstruct`: arrays and error by value."""

import numpy as np


def test_arrays_are_those_of_the_model(make, draw, fetch):
  model = make()
  text, arrays = draw("reconstruct", model, images="data:test:3,5,9")
  data = fetch(model, 3, 5, 9)
  np.testing.assert_array_equal(arrays["originals"], data["image"])
  codes = model.encode(data["image"])
  np.testing.assert_array_equal(arrays["codes"], codes)
  np.testing.assert_array_equal(arrays["reconstructions"], model.decode(codes))
  difference = arrays["reconstructions"] / 255 - data["image"] / 255
  assert "Mean squared error of 3 images" in text
  assert f": {np.mean(difference**2):.5f}." in text
  path = model.workdir / "figures" / "reconstruct.npz"
  first = path.read_bytes()
  draw("reconstruct", model, images="data:test:3,5,9")
  assert path.read_bytes() == first
  _, arrays = draw("reconstruct", model)
  assert len(arrays["originals"]) == 30


def test_missing_image_is_refused(make, refusal):
  text = refusal("reconstruct", make(), images="data:test:99")
  assert "there is no image 99" in text
