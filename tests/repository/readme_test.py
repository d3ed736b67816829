"""Every path, command, flag and name in the README exists."""

import pathlib
import re
import shlex
import types

import pytest

from vae_jax import config as config_lib
from vae_jax import modes, objectives
from vae_jax.config import flags
from vae_jax.objectives import elbo

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
TABLE = re.search(r"\| `config\.objective\.name`.*?\n\n", TEXT, re.S).group()
COMMANDS = re.findall(r"^ {4,}((?:python|pip) .*)$", TEXT, re.M)

FLAGS = {*flags.MODE_FLAGS, "mode", "workdir", "seed", "help"}


def test_linked_and_quoted_paths_exist():
  linked = re.findall(r"\]\(((?!http)[^)]+)\)", TEXT)
  quoted = re.findall(r"`((?:configs|tests|vae_jax|launch)/[\w./]+)`", TEXT)
  assert len(linked) > 15 and len(quoted) > 3
  for path in linked + quoted:
    assert (ROOT / path).exists(), path


def test_modes_are_given_what_they_read():
  told = set()
  for command in COMMANDS:
    if "launch/" in command:
      continue  # Programs with flags of their own.
    words = [w for w in shlex.split(command, comments=True) if w[:2] == "--"]
    named = dict(w[2:].partition("=")[::2] for w in words)
    mode = named.get("mode", "train")
    told.add(mode)
    given = set(named) & set(flags.MODE_FLAGS)
    assert given <= set(modes.table()[mode].flags), command
  # `decode` and `manifold` are of models with two latents.
  assert set(modes.table()) - told <= {"decode", "manifold"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_made_of_what_exists(command):
  words = shlex.split(command, comments=True)
  known = set(FLAGS)
  for word in words:
    if word.startswith("launch/") and word.endswith(".py"):
      # Of a program of its own, in front of those that it passes on.
      code = (ROOT / word).read_text()
      known |= set(re.findall(r'"(?:--)?(\w+)",', code))
  for word in words:
    if word.startswith("--config="):
      assert (ROOT / word.partition("=")[2].partition(":")[0]).exists()
    elif word.startswith("--config."):
      config_lib.check_path(word.removeprefix("--config.").partition("=")[0])
    elif word.startswith("--"):
      assert word.partition("=")[0].removeprefix("--") in known | {""}
    elif re.match(r"\.\[\w+\]", word):
      assert word[2:-1] + '"' in (ROOT / "setup.py").read_text()


def test_every_config_and_loss_is_listed():
  for path in (ROOT / "configs").glob("*.py"):
    assert f"configs/{path.name}" in TEXT or f"`{path.name}`" in TEXT
  for name in objectives.names():
    assert f"`{name}`" in TABLE


def test_the_ten_lines_are_a_loss():
  (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
  module = types.ModuleType("my_losses")
  exec(code, module.__dict__)
  body = code[code.index("def my_loss") :].strip().splitlines()
  assert len(body) <= 10
  from tests.support import linear_gaussian_vae

  params, _ = linear_gaussian_vae.exact_model()
  batch = linear_gaussian_vae.batch_of([[[[9]] * 3] * 2] * 2)
  ours = linear_gaussian_vae.terms_of(module.my_loss, params, batch)
  plain = linear_gaussian_vae.terms_of(elbo.elbo, params, batch)
  assert (ours.loss == plain.loss).all()


def test_settings_named_in_the_text_exist():
  for path in re.findall(r"`config\.([\w.]+)`", TEXT):
    if path not in ("json", "py"):  # Files, not settings.
      config_lib.check_path(path)
