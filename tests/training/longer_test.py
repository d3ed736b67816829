"""A run becomes longer, where its first steps stay what they were."""

import pytest

from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.train import train
from vae_jax.training import restore


def test_half_and_half_are_the_bits_of_the_whole(
  reference, faces_dir, tmp_path
):
  """With num_steps, then with num_epochs of as many images."""
  train(tiny_config(faces_dir, train__num_steps=8), str(tmp_path))
  config = tiny_config(faces_dir, train__num_steps=14, eval__batch_size=32)
  train(config, str(tmp_path))
  saved = restore.load_config(tmp_path)
  assert saved.train.num_steps == 14
  images = len(datasets.open_splits(saved.data).train)
  epochs = tiny_config(
    faces_dir, train__num_steps=0, train__num_epochs=20 * 16 / images
  )
  state = train(epochs, str(tmp_path))
  assert_trees_equal(state, reference[1])
  with pytest.raises(
    ConfigError, match="20 steps and cannot become shorter; 8"
  ):
    train(tiny_config(faces_dir, train__num_steps=8), str(tmp_path))


def test_schedule_that_depends_on_the_length_is_refused(faces_dir, tmp_path):
  settings = {"optim__schedule__name": "cosine"}
  train(tiny_config(faces_dir, train__num_steps=2, **settings), str(tmp_path))
  config = tiny_config(faces_dir, train__num_steps=4, **settings)
  sentence = "its 2 steps cannot become 4: the rates of .* = cosine depend"
  with pytest.raises(ConfigError, match=f"{sentence}.*--config.init_from="):
    train(config, str(tmp_path))
  assert restore.load_config(tmp_path).train.num_steps == 2
  other = tiny_config(faces_dir, train__num_steps=2, optim__clip_norm=1.0)
  other.optim.schedule.name = "cosine"
  with pytest.raises(ConfigError, match=r"clip_norm(.|\n)*--config.init_from="):
    train(other, str(tmp_path))
