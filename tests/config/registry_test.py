"""Arguments are checked against the signature that they are passed to."""

import pytest

from vae_jax import config as config_lib
from vae_jax.config import registry


def test_arguments_are_checked_against_the_signature():
  def loss(vae, batch, *, beta=1.0, kind="a"):
    del vae, batch, beta, kind

  known = registry.keyword_arguments(loss)
  c = config_lib.default()
  c.objective.args.beta = 2
  args = registry.check_arguments("objective", "loss", c.objective.args, known)
  assert args == {"beta": 2}
  for key, value, message in (
    ("bta", 2, "takes beta, kind"),
    ("beta", "two", "float"),
    ("kind", 3, "str"),
    ("beta", True, "float"),
  ):
    c = config_lib.default()
    c.objective.args[key] = value
    with pytest.raises(config_lib.ConfigError, match=message):
      registry.check_arguments("objective", "loss", c.objective.args, known)
