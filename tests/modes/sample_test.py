"""`--mode=sample`: temperature, files, and wrong flags."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from vae_jax.config import ConfigError, check


def test_samples_at_temperature_zero_are_one_image(make, draw):
  model = make(sample__temperature=0.0)
  check.validate(model.config)
  _, arrays = draw("sample", model, count=5)
  (middle,) = model.decode(np.zeros((1, 3), np.float32))
  np.testing.assert_array_equal(arrays["images"], np.stack([middle] * 5))
  model.config.sample.temperature = -0.5
  with pytest.raises(ConfigError, match="sample.temperature is -0.5"):
    check.validate(model.config)


def test_folder_holds_samples_of_the_last_run_only(make, draw):
  model = make()
  draw("sample", model, count=12, individual=True)
  own = model.workdir / "figures" / "samples" / "mine.png"
  own.write_bytes(b"")
  text, arrays = draw("sample", model, count=3, individual=True)
  names = sorted(path.name for path in pathlib.Path(text).iterdir())
  assert names == ["00000.png", "00001.png", "00002.png", "mine.png"]
  for i in range(3):
    stored = np.asarray(Image.open(f"{text}/0000{i}.png"))
    np.testing.assert_array_equal(stored, arrays["images"][i, ..., 0])


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"count": 0}, "--count is 0; it must be 1 or more"),
    ({"temperature": -0.5}, "--temperature is -0.5; it must be a finite"),
    ({"temperature": np.inf}, "--temperature is inf"),
  ],
)
def test_wrong_flags_are_refused(make, refusal, flags, message):
  assert message in refusal("sample", make(), **flags)
