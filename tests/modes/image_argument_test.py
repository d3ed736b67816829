"""`--images`: selections of the data set and of files."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny import with_config
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.modes import image_argument
from vae_jax.training import restore


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
  """Three grey pictures, of 10, 20 and 30, in a folder that one is in."""
  monkeypatch.chdir(tmp_path)
  for i, name in enumerate(("b.png", "a.png", "c[1].png")):
    level = np.full((20, 20), 10 * i + 10, np.uint8)
    Image.fromarray(level).save(tmp_path / name)
  return tmp_path


def select(model, text, default="data:test:0-7"):
  return image_argument.select(model, text, default)


def levels(selection):
  return selection.image.mean(axis=(1, 2, 3)).tolist()


def test_selection_of_a_split_equals_its_source(model):
  selection = select(model, "data:validation:3,5, 9-11")
  index = np.array([3, 5, 9, 10, 11])
  data = model.experiment.source("validation").fetch(index)
  np.testing.assert_array_equal(selection.image, data["image"])
  np.testing.assert_array_equal(selection.label, data["label"])
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
  np.testing.assert_array_equal(
    selection.image[2], select(model, "data:train:0").image[0]
  )


def test_selection_is_binarized_as_in_evaluation(conditional):
  selection = select(conditional, "data:test:4-6")
  index = np.arange(4, 7, dtype=np.int32)
  data = conditional.experiment.source("test").fetch(index)
  np.testing.assert_array_equal(
    selection.image, conditional.as_input(data["image"], index)
  )
  assert set(np.unique(selection.image)) == {0, 255}
  np.testing.assert_array_equal(selection.label, data["label"])


def test_upload_is_read_or_refused(model, conditional):
  buffer = io.BytesIO()
  Image.new("RGB", (30, 50), (40, 40, 40)).save(buffer, "webp", lossless=True)
  selection = image_argument.photo(model, buffer.getvalue(), "me.webp")
  assert selection.name == ("me.webp",) and levels(selection) == [40]
  with pytest.raises(ConfigError, match="me.webp has no label"):
    image_argument.photo(conditional, buffer.getvalue(), "me.webp")
  with pytest.raises(ConfigError, match="me.webp cannot be decoded"):
    image_argument.photo(model, buffer.getvalue()[:-9], "me.webp")


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
    (
      "data:test:0-32",
      "no image 32; the split has 32, of which the last is 31",
    ),
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
