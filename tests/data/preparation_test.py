"""Data sets on disk: found, or prepared once."""

import shutil

import pytest
import tensorflow_datasets as tfds

from tests.support.tfds import (
  content,
  edit_info,
  examples,
  fails,
  opened,
  pictures,
  without_tensorflow,
  write,
)
from vae_jax.config import ConfigError
from vae_jax.data import errors
from vae_jax.data.synthetic_faces import dataset

pytestmark = pytest.mark.usefixtures("offline")


def test_default_folder_is_that_of_tfds(root, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(root))
  assert len(opened("").train) == 40


def test_highest_matching_version_is_opened(tmp_path):
  for version, n in (("1.0.0", 20), ("1.9.0", 30), ("1.10.0", 40)):
    write(tmp_path, {"train": examples(pictures(n))}, version=version)
  names = [opened(tmp_path, f"tiny{v}").name for v in ("", ":1.9.0", ":1.*.*")]
  assert names == ["tiny:1.10.0", "tiny:1.9.0", "tiny:1.10.0"]
  message = fails(tmp_path, "tiny:2.0.0")
  assert "does not contain version 2.0.0 but 1.0.0, 1.9.0, 1.10.0" in message


def test_configs_are_selected_by_name(tmp_path):
  write(tmp_path, {"train": examples(pictures(20))}, configs=("full", "small"))
  for asked, name in (
    ("", "full"),
    ("/small", "small"),
    ("/full:1.0.0", "full"),
  ):
    assert opened(tmp_path, f"tiny{asked}").name == f"tiny/{name}:1.0.0"
  shutil.rmtree(tmp_path / "tiny" / ".config")
  assert "tiny/full, tiny/small" in fails(tmp_path)
  shutil.rmtree(tmp_path / "tiny" / "full")
  assert opened(tmp_path).name == "tiny/small:1.0.0"


@pytest.mark.parametrize(
  "name, message",
  [
    ("mnits", "did you mean 'mnist'"),
    ("tinny", "did you mean 'tiny'"),
    ("syntetic_faces", "did you mean 'synthetic_faces'"),
    ("tiny:1", "NAME:VERSION"),
    ("emnist/balancd", "did you mean 'balanced'"),
    ("mnist:9.9.9", "only: 3.0.1"),
  ],
)
def test_unknown_names_are_refused_with_suggestions(root, name, message):
  assert message in fails(root, name)


def test_a_path_is_no_name(root, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "photos").mkdir()
  (tmp_path / "mine.npz").touch()
  for name, own in (
    ("photos", "folder:photos"),
    ("./photos", "folder:./photos"),
    ("mine.npz", "arrays:mine.npz"),
  ):
    message = f"for what is at that path write {own}"
    assert fails(root, name).endswith(message)


def test_unknown_folders_are_refused(tmp_path):
  message = fails(tmp_path / "no")
  assert f"--config.data.dir={tmp_path}/no does not exist" in message
  (tmp_path / "file").touch()
  assert "does not exist" in fails(tmp_path / "file")
  with pytest.raises(ConfigError, match="ftp://host/tfds is no known address"):
    opened("ftp://host/tfds")


def test_preparation_without_tensorflow_is_refused_with_commands(tmp_path):
  message = fails(tmp_path, "kmnist")
  assert 'pip install -e ".[prepare]"' in message
  assert (
    'python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('kmnist', data_dir='{tmp_path}', "
    "file_format='array_record').download_and_prepare()\""
  ) in message
  assert "manual_dir" not in message
  for name, file in (
    ("celeb_a", "list_landmarks_align_celeba.txt"),
    ("mnist", "t10k-labels-idx1-ubyte.gz"),
    ("fashion_mnist", "t10k-labels-idx1-ubyte.gz"),
  ):
    message = fails(tmp_path, name)
    assert "--config.data.manual_dir" in message and file in message


def test_other_file_formats_are_refused_with_the_conversion(root, tmp_path):
  root = shutil.copytree(root, tmp_path / "tfds")
  edit_info(root, fileFormat="tfrecord")
  message = fails(root)
  assert "stored as tfrecord" in message
  assert (
    "python -m tensorflow_datasets.scripts.convert_format "
    f"--dataset_version_dir={root}/tiny/1.0.0 --out_file_format=array_record"
  ) in message
  # The metadata after that command.
  edit_info(root, alternativeFileFormats=["array_record"])
  assert len(content(opened(root).train)["image"]) == 40


def test_missing_file_is_named(root, tmp_path):
  root = shutil.copytree(root, tmp_path / "tfds")
  (path,) = root.glob("tiny/1.0.0/tiny-test.array_record*")
  path.unlink()
  assert f"{path} is missing: remove" in fails(root)


def test_preparation_with_tensorflow_writes_array_record(tmp_path, monkeypatch):
  calls = []

  def prepare(self, download_config):
    calls.append((self.info.full_name, download_config.manual_dir))
    assert self.data_dir == str(tmp_path / "kmnist" / "3.0.1")
    assert self.info.file_format.value == "array_record"
    write(tmp_path, {"train": examples(pictures(20))}, name="kmnist")

  maker = tfds.builder_cls("kmnist")
  monkeypatch.setattr(maker, "download_and_prepare", prepare)
  without_tensorflow(monkeypatch, spec=object())
  for _ in range(2):
    splits = opened(tmp_path, "kmnist", manual_dir="/by/hand")
    assert splits.name == "kmnist:1.0.0"
  assert calls == [("kmnist/3.0.1", "/by/hand")]


def test_failed_download_is_reported(tmp_path, monkeypatch):
  def prepare(self, download_config):
    raise RuntimeError("Artifact https://drive,\nhas wrong checksum")

  for name in ("kmnist", "celeb_a"):
    maker = tfds.builder_cls(name)
    monkeypatch.setattr(maker, "download_and_prepare", prepare)
  without_tensorflow(monkeypatch, spec=object())
  message = fails(tmp_path, "kmnist")
  assert "RuntimeError: Artifact https://drive, has wrong checksum" in message
  assert "manual_dir" not in message
  message = fails(tmp_path, "celeb_a")
  assert "Google Drive often refuses it: put img_align_celeba.zip" in message
  assert "--config.data.manual_dir" in message


def test_synthetic_faces_are_drawn_when_missing(tmp_path, monkeypatch):
  calls = []

  def prepare(*args):
    calls.append(args)
    if args[1] != "tiny":
      raise ValueError("no such config")
    train = examples(pictures(20))
    write(tmp_path, {"train": train}, name="synthetic_faces", configs=("tiny",))

  monkeypatch.setattr(dataset, "prepare", prepare)
  name = "synthetic_faces/tiny"
  assert opened(tmp_path, name).name == "synthetic_faces/tiny:1.0.0"
  assert calls == [(tmp_path, "tiny")]
  assert "no such config" in fails(tmp_path, "synthetic_faces/tinny")


def test_suggestions_are_near_names_or_all_of_a_few():
  known = ["train", "test"]
  text = "; did you mean 'train'? (there are: train, test)"
  assert errors.suggest("tran", known) == text
  assert errors.suggest("zzz", [str(i) for i in range(99)]) == ""
  assert errors.suggest("zzz", []) == ""
