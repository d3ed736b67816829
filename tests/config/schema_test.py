"""The schema documents every setting."""

import inspect

from vae_jax import config as config_lib


def test_every_leaf_of_the_default_is_commented():
  source = inspect.getsource(config_lib.default)
  settings = [
    line
    for line in source.splitlines()
    if line.strip().startswith("c.") and "= ConfigDict()" not in line
    if " = " in line
  ]
  assert len(settings) > 40
  assert not [line for line in settings if "  # " not in line]
