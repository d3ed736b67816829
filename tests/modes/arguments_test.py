"""`--images` and `--latent`: selections of images, and codes."""

import io
import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from tests.support.tiny import with_config
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.modes import arguments
from vae_jax.training import restore

ONE, TWO = [[0.5, -2, 1e-3]], [[0.5, -2, 1e-3], [1, 2, 3]]


@pytest.fixture(scope="module")
def model(reference):
  folder, _ = reference
  return trained_model.open_run(restore.load_config(folder), str(folder))


@pytest.fixture(scope="module")
def conditional(model):
  """Returns what looks to `images` like a conditional model of classes."""
  config = model.config.copy_and_resolve_references()
  config.model.condition = "label"
  config.data.label = "attributes/Smiling"
  config.data.binarization = "dynamic"
  return with_config(model, config)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Three gray pictures, of 10, 20 and 30, in a folder that one is in."""
  monkeypatch.chdir(tmp_path)
  for i, name in enumerate(("b.png", "a.png", "c[1].png")):
    level = np.full((20, 20), 10 * i + 10, np.uint8)
    Image.fromarray(level).save(tmp_path / name)
  return tmp_path


def select(model, text, default="data:test:0-7"):
  return arguments.images(model, text, default)


def levels(selection):
  return selection.image.mean(axis=(1, 2, 3)).tolist()


def test_selection_of_a_split_equals_its_source(model):
  selection = select(model, "data:validation:3,5, 9-11")
  index = np.array([3, 5, 9, 10, 11])
  data = model.experiment.source("validation").fetch(index)
  assert_array_equal(selection.image, data["image"])
  assert_array_equal(selection.label, data["label"])
  assert selection.name == tuple(f"validation {i}" for i in index)
  assert len(selection) == 5


def test_default_ignores_positions_beyond_a_small_split(model):
  count = len(model.experiment.source("test"))
  selection = select(model, None, f"data:test:{count - 2}-{count + 9}")
  assert selection.name == (f"test {count - 2}", f"test {count - 1}")


def test_selection_of_files_is_ordered_by_name(model, folder):
  selection = select(model, "*.png")
  assert selection.name == ("a.png", "b.png", "c[1].png")
  assert levels(selection) == [20, 10, 30]
  assert selection.image.shape == (3, 16, 16, 1) and selection.label is None
  assert levels(select(model, "c[1].png")) == [30]
  assert levels(select(model, str(folder / "?.png"))) == [20, 10]


def test_selections_are_joined(model, folder):
  selection = select(model, "data:test:1 | b.png|data:train:0")
  assert selection.name == ("test 1", "b.png", "train 0")
  assert selection.label is None
  assert levels(selection)[1] == 10
  last = select(model, "data:train:0").image[0]
  assert_array_equal(selection.image[2], last)


def test_selection_is_binarized_as_in_evaluation(conditional):
  selection = select(conditional, "data:test:4-6")
  index = np.arange(4, 7, dtype=np.int32)
  data = conditional.experiment.source("test").fetch(index)
  binary = conditional.as_input(data["image"], index)
  assert_array_equal(selection.image, binary)
  assert set(np.unique(selection.image)) == {0, 255}
  assert_array_equal(selection.label, data["label"])


def test_upload_is_read_or_refused(model, conditional):
  buffer = io.BytesIO()
  Image.new("RGB", (30, 50), (40, 40, 40)).save(buffer, "webp", lossless=True)
  content = buffer.getvalue()
  selection = arguments.photo(model, content, "me.webp")
  assert selection.name == ("me.webp",) and levels(selection) == [40]
  assert arguments.photo(conditional, content, "me.webp").label is None
  with pytest.raises(ConfigError, match="me.webp cannot be decoded"):
    arguments.photo(model, content[:-9], "me.webp")


@pytest.mark.parametrize(
  "text, message",
  [
    ("data:tset:0", "no split 'tset'; it must be one of train, validation"),
    ("data:test", "'' is no position"),
    ("data:test:", "'' is no position"),
    ("data:test:0-", "'0-' is no position"),
    ("data:test:-1", "'-1' is no position"),
    ("data:test:1,,2", "'' is no position"),
    ("data:test:7-0", "0 is before 7"),
    ("data:test:0-32", "image 32; the split has 32, of which the last is 31"),
    ("data:test:0-999999999", "no image 999999999"),
    ("", "names no images"),
    ("data:test:0|", "names no images"),
    ("nobody.png", "--images=nobody.png: there is no such file."),
    ("*.jpg", "there is no such file."),
    (".", "did you mean ./*?"),
    ("words.txt", "words.txt is not an image"),
  ],
)
def test_wrong_selections_are_refused(model, folder, text, message):
  (folder / "words.txt").write_text("hello")
  with pytest.raises(ConfigError) as caught:
    select(model, text)
  assert message in str(caught.value) and "\n" not in str(caught.value)


def test_conditional_model_refuses_photos(conditional, folder):
  with pytest.raises(ConfigError, match=r"a.png has no label.*=label"):
    select(conditional, "data:test:0 | a.png")


def test_photo_is_cropped_like_the_data_set(model, folder):
  config = model.config.copy_and_resolve_references()
  config.data.crop = 32  # Of 64 x 64 drawn faces: half of each side.
  photo = np.zeros((48, 64), np.uint8)
  photo[12:36, 20:44] = 200
  Image.fromarray(photo).save(folder / "half.png")
  cropped = with_config(model, config)
  assert (select(cropped, "half.png").image == 200).all()
  assert not (select(model, "half.png").image == 200).all()


@pytest.mark.parametrize("text", ["0.5,-2,1e-3", " 0.5, -2 ,0.001"])
def test_numbers_are_codes(text):
  codes = arguments.codes(text, 3)
  assert codes.dtype == np.float32
  assert_array_equal(codes, np.float32(ONE))
  assert_array_equal(arguments.codes("-1", 1), [[-1]])


@pytest.mark.parametrize("values", [ONE[0], ONE, TWO])
def test_files_hold_codes(folder, values):
  np.save("a.npy", np.float64(values))
  np.savez("b.npz", codes=values, images=np.zeros(9))
  np.savez("c.npz", other=np.float16(values) * 0 + values)
  np.savez_compressed("d.npz", codes=np.zeros(1), latent=values)
  (folder / "e.json").write_text(json.dumps(values))
  (folder / "f.json").write_text(json.dumps({"latent": values, "step": 7}))
  for name in ("a.npy", "b.npz", "c.npz", "d.npz", "e.json", "f.json"):
    expected = np.float32(values).reshape(-1, 3)
    assert_array_equal(arguments.codes(name, 3), expected)


def refusal(text, dim=3):
  with pytest.raises(ConfigError) as caught:
    arguments.codes(text, dim)
  message = str(caught.value)
  assert "\n" not in message and message.endswith(".")
  return message


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
def test_wrong_codes_are_refused(text, words):
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
def test_wrong_json_is_refused(folder, content, words):
  (folder / "code.json").write_text(content)
  assert words in refusal("code.json")


def test_pickles_are_not_loaded(folder):
  class Harmful:
    def __reduce__(self):
      return (folder / "harm").write_text, ("done",)

  harmful = np.array([Harmful()] * 3, object)
  np.save("a.npy", harmful, allow_pickle=True)
  np.savez("b.npz", latent=harmful)
  for name in ("a.npy", "b.npz"):
    assert "cannot be read: it is no" in refusal(name)
  assert not (folder / "harm").exists()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_files_are_refused(folder, suffix):
  path = folder / f"code.{suffix}"
  np.savez_compressed("code.npz", latent=np.arange(1000.0))
  np.save("code.npy", np.arange(1000.0))
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
