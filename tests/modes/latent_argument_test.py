"""`--latent`: codes as numbers and in files."""

import json

import numpy as np
import pytest

from vae_jax.config import ConfigError
from vae_jax.modes import latent_argument

ONE, TWO = [[0.5, -2, 1e-3]], [[0.5, -2, 1e-3], [1, 2, 3]]


def refusal(text, dim=3):
  with pytest.raises(ConfigError) as caught:
    latent_argument.read(text, dim)
  message = str(caught.value)
  assert "\n" not in message and message.endswith(".")
  return message


@pytest.mark.parametrize("text", ["0.5,-2,1e-3", " 0.5, -2 ,0.001"])
def test_numbers_are_codes(text):
  codes = latent_argument.read(text, 3)
  assert codes.dtype == np.float32
  np.testing.assert_array_equal(codes, np.float32(ONE))
  np.testing.assert_array_equal(latent_argument.read("-1", 1), [[-1]])


@pytest.mark.parametrize("values", [ONE[0], ONE, TWO])
def test_files_hold_codes(tmp_path, values):
  expected = np.float32(values).reshape(-1, 3)

  def check(name):
    np.testing.assert_array_equal(
      latent_argument.read(f"{tmp_path}/{name}", 3), expected
    )

  np.save(tmp_path / "a.npy", np.float64(values))
  np.savez(tmp_path / "b.npz", codes=values, images=np.zeros(9))
  np.savez(tmp_path / "c.npz", other=np.float16(values) * 0 + values)
  np.savez_compressed(tmp_path / "d.npz", codes=np.zeros(1), latent=values)
  (tmp_path / "e.json").write_text(json.dumps(values))
  (tmp_path / "f.json").write_text(json.dumps({"latent": values, "step": 7}))
  for name in ("a.npy", "b.npz", "c.npz", "d.npz", "e.json", "f.json"):
    check(name)


@pytest.mark.parametrize(
  "text, words",
  [
    (None, "needs --latent: 3 numbers, as 0,0,0, or a file"),
    ("", "is neither numbers"),
    ("a,b,c", "is neither numbers"),
    ("1,2,", "is neither numbers"),
    ("codes.txt", "nor the path of a file"),
    ("1,2", "are 2 numbers; it must be 3 for each code"),
    ("1,2,nan", "not only finite numbers"),
    ("1,2,1e39", "not only finite numbers"),
    ("nothing.npy", "nothing.npy cannot be read: No such file"),
  ],
)
def test_wrong_text_is_refused(text, words):
  assert words in refusal(text)


def test_message_shortens_long_codes():
  assert "32 numbers, as 0,0,0,..., or" in refusal(None, 32)


@pytest.mark.parametrize(
  "content, words",
  [
    ("{}", "holds no latent or codes, but nothing"),
    ('{"a": [1], "b": [2]}', "holds no latent or codes, but a, b"),
    ('{"latent": "abc"}', "not only numbers"),
    ('{"latent": null}', "not only numbers"),
    ('{"latent": {"a": 1}}', "not only numbers"),
    ("[1, 2, null]", "not only numbers"),
    ("[[1, 2, 3], [1, 2]]", "not only numbers"),
    ("[1, 2, NaN]", "not only finite numbers"),
    ("[1, 2, 1e999]", "not only finite numbers"),
    ("[1, 2, 3, 4]", "are 4 numbers"),
    ("[[1, 2], [3, 4]]", r"are [2, 2] numbers"),
    ("[[[1, 2, 3]]]", r"are [1, 1, 3] numbers"),
    ("[]", "are 0 numbers"),
    ("7", "are [] numbers"),
    ("[1, 2", "is no .json file"),
    ("\x00\x01", "is no .json file"),
    ("[" * 100_000, "is no .json file"),
  ],
)
def test_wrong_json_is_refused(tmp_path, content, words):
  path = tmp_path / "code.json"
  path.write_text(content)
  assert words in refusal(str(path))


def test_pickles_are_not_loaded(tmp_path):
  class Harmful:
    def __reduce__(self):
      return (tmp_path / "harm").write_text, ("done",)

  harmful = np.array([Harmful()] * 3, object)
  np.save(tmp_path / "a.npy", harmful, allow_pickle=True)
  np.savez(tmp_path / "b.npz", latent=harmful)
  for name in ("a.npy", "b.npz"):
    assert "cannot be read: it is no" in refusal(str(tmp_path / name))
  assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_files_are_refused(tmp_path, suffix):
  path = tmp_path / f"code.{suffix}"
  np.savez_compressed(tmp_path / "code.npz", latent=np.arange(1000.0))
  np.save(tmp_path / "code.npy", np.arange(1000.0))
  content = path.read_bytes()
  for part in (0, 3, 50, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:part])
    assert "cannot be read" in refusal(str(path))
  rng = np.random.default_rng(0)
  for _ in range(40):
    damaged = np.frombuffer(content, np.uint8).copy()
    damaged[rng.integers(0, len(damaged), 5)] ^= 0xFF
    path.write_bytes(damaged.tobytes())
    refusal(str(path))
