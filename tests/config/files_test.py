"""A config file that is none gets a sentence with its line."""

import re

import pytest

from vae_jax import config as config_lib
from vae_jax.config import ConfigError, files

_HEAD = "from vae_jax import config\n\n\ndef get_config():\n"
_MAKES = f"{_HEAD}  c = config.default()\n"
_OPEN = f"{_MAKES}  c.unlock()\n"

# Content of the file, and what the sentence says after the file's name.
WRONG = [
  ("", " has no function get_config.*; start from"),
  ("x = 1", " has no function get_config"),
  ("get_config = 3", " has no function get_config"),
  ("def get_config(:", ", line 1: SyntaxError: invalid syntax"),
  ("def f():\n\treturn 1\n        return 2", ", line 3: TabError: incons"),
  ("import nothere", ", line 1: imports nothere, which is not there"),
  ("from vae_jax import nothing", ", line 1: ImportError: cannot import"),
  ("import sys\n\nsys.exit(3)", ", line 3: the config file ends the program"),
  ("a = 1\nb = a / 0", ", line 2: ZeroDivisionError: division by zero"),
  ("\x00", ": (Syntax|Value)Error: source code string cannot contain null"),
  (f"{_HEAD}  import no.where", ", line 5: imports no, which is not there"),
  (f"{_HEAD}  return {{}}['x']", ", line 5: KeyError: 'x'"),
  (f"{_HEAD}  return open('nofile')", ", line 5: FileNotFoundError: .*nofile"),
  (f"{_HEAD}  return get_config()", ", line 5: RecursionError: maximum"),
  (f"{_HEAD}  return {{'seed': 1}}", ", line 4: .* returned a dict; start fr"),
  (f"{_HEAD}  return None, 1", ", line 4: .* returned a tuple; start from"),
  (_MAKES, ", line 4: .* returned None; start from .* and end with `return c`"),
  (f"{_MAKES}  return config.ConfigError", ", line 4: .* returned a type"),
  (f"{_MAKES}  c.optim.rat = 1", ", line 6 names 'rat', which is no setting"),
  (f"{_MAKES}  c.sed = 1", ", line 6 names 'sed', .*; did you mean 'seed'"),
  (f"{_MAKES}  c.modle.remat = 1", ", line 6 names 'modle', .* mean 'model'"),
  (f"{_MAKES}  c.seed = 'one'", ", line 6: TypeError: .*'seed'"),
  (f"{_OPEN}  c.more = 1\n  return c", ", line 4: .* sets 'more', which is no"),
  (f"{_OPEN}  del c.eval\n  return c", ", line 4: .* without eval.batch_size"),
  (f"{_OPEN}  c.seed = None\n  return c", ", line 4: .* sets seed to None; it"),
  ("def get_config(variant):\n  pass", r": get_config\(variant\) needs a var"),
]


@pytest.mark.parametrize("content, words", WRONG)
def test_a_wrong_file_gets_one_sentence(content, words, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(content)
  with pytest.raises(ConfigError) as caught:
    files.load(str(path))
  text = str(caught.value)
  assert "\n" not in text
  assert re.match(re.escape(str(path)) + words, text), text


def test_a_right_file_is_loaded_with_its_variant(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(f"{_MAKES}  return c\n")
  assert files.load(str(path)) == config_lib.default()
  with pytest.raises(ConfigError, match="mine.py has no variants, as 'short'"):
    files.load(f"{path}:short")
  path.write_text(
    f"{_MAKES.replace('()', '(seed)', 1)}  c.seed = int(seed)\n  return c\n"
  )
  assert files.load(f"{path}:7").seed == 7
  with pytest.raises(ConfigError, match="line 6: ValueError: invalid literal"):
    files.load(f"{path}:a")


def test_the_files_own_refusal_is_kept(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(f"{_HEAD}  raise config.ConfigError('No such size.')\n")
  with pytest.raises(ConfigError, match="^No such size.$"):
    files.load(str(path))
