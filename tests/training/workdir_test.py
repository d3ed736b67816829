"""A workdir belongs to one run at a time."""

import pytest

from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.training import restore
from vae_jax.training import workdir as workdir_lib


def test_remote_workdir_has_one_owner(any_address, faces_dir):
  config = tiny_config(faces_dir)
  for _ in range(2):
    with workdir_lib.claim(str(any_address), config):
      assert (any_address / ".owner").exists()
      with pytest.raises(config_lib.ConfigError, match="Another process is"):
        with workdir_lib.claim(str(any_address), config):
          pass
      assert (any_address / ".owner").exists()
    assert not (any_address / ".owner").exists()


def test_unreachable_workdirs_are_refused(s3, faces_dir):
  config = tiny_config(faces_dir)
  with pytest.raises(config_lib.ConfigError, match="--workdir=s3://nobody/x"):
    with workdir_lib.claim("s3://nobody/x", config):
      pass
  with pytest.raises(config_lib.ConfigError, match="There is no run in"):
    restore.load_config("s3://bucket/no/run")
