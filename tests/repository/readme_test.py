"""Every path, command, flag, setting and name in the READMEs exists."""

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
FOLDERS = ("configs", "launch", "tests", "vae_jax")
TEXTS = {
  path.relative_to(ROOT): path.read_text()
  for path in sorted(ROOT.rglob("README.md"))
  if path.parent == ROOT or path.relative_to(ROOT).parts[0] in FOLDERS
}
ALL = "\n\n".join(TEXTS.values())
# Each command once, with the first README that has it.
COMMANDS = {
  command: str(path)
  for path, text in reversed(TEXTS.items())
  for command in re.findall(r"^ {4,}((?:python|pip) .*)$", text, re.M)
}
FLAGS = {*flags.MODE_FLAGS, "mode", "workdir", "seed", "help"}

of_each_readme = pytest.mark.parametrize("path", TEXTS, ids=str)


def slugs(text):
  """Returns the anchors that GitHub gives to the headings of a text."""
  headings = re.findall(r"^#+ (.*)$", text, re.M)
  return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_readmes_stand_beside_the_code():
  folders = {".", "configs", "launch", "vae_jax/data", "vae_jax/evaluate"}
  assert {str(path.parent) for path in TEXTS} >= folders


@of_each_readme
def test_links_lead_to_files_and_headings(path):
  links = re.findall(r"\]\(((?!http)[^)]+)\)", TEXTS[path])
  for link in links:
    file, _, anchor = link.partition("#")
    target = ROOT / path.parent / file if file else ROOT / path
    assert target.exists(), link
    assert not anchor or anchor in slugs(target.read_text()), link


def test_links_and_quoted_paths_are_found():
  links = re.findall(r"\]\(((?!http)[^)]+)\)", ALL)
  quoted = re.findall(r"`((?:configs|tests|vae_jax|launch)/[\w./]+)`", ALL)
  assert len(links) > 15 and len(quoted) > 3
  for path in quoted:
    assert (ROOT / path).exists(), path


def test_modes_are_given_flags_that_they_read():
  named = set()
  for command in COMMANDS:
    if "launch/" in command:
      continue  # Programs with flags of their own.
    words = [w for w in shlex.split(command, comments=True) if w[:2] == "--"]
    values = dict(w[2:].partition("=")[::2] for w in words)
    mode = values.get("mode", "train")
    named.add(mode)
    given = set(values) & set(flags.MODE_FLAGS)
    assert given <= set(modes.table()[mode].flags), command
  # `decode` and `manifold` need a model with two latents.
  assert set(modes.table()) - named <= {"decode", "manifold"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_consist_of_what_exists(command):
  words = shlex.split(command, comments=True)
  known = set(FLAGS)
  for word in words:
    if word.startswith("launch/") and word.endswith(".py"):
      # Flags of this program come before those that it passes on.
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


def test_every_config_is_listed():
  for path in (ROOT / "configs").glob("*.py"):
    assert f"configs/{path.name}" in ALL or f"`{path.name}`" in ALL


def test_every_loss_is_in_the_table_of_losses():
  tables = re.findall(r"\| `config\.objective\.name`.*?\n\n", ALL, re.S)
  table = "".join(tables)
  for name in objectives.names():
    assert f"`{name}`" in table


def test_the_ten_line_loss_is_a_loss():
  blocks = re.findall(r"```python\n(.*?)```", ALL, re.S)
  codes = [code for code in blocks if "def my_loss" in code]
  assert codes
  from tests.support import linear_gaussian_vae

  params, _ = linear_gaussian_vae.exact_model()
  batch = linear_gaussian_vae.batch_of([[[[9]] * 3] * 2] * 2)
  plain = linear_gaussian_vae.terms_of(elbo.elbo, params, batch)
  for code in codes:
    module = types.ModuleType("my_losses")
    exec(code, module.__dict__)
    body = code[code.index("def my_loss") :].strip().splitlines()
    assert len(body) <= 10
    ours = linear_gaussian_vae.terms_of(module.my_loss, params, batch)
    assert (ours.loss == plain.loss).all()


@of_each_readme
def test_settings_exist(path):
  for setting in re.findall(r"`config\.([\w.]+)`", TEXTS[path]):
    if setting not in ("json", "py"):  # Files, not settings.
      config_lib.check_path(setting)
