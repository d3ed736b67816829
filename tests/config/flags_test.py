"""Help texts and exit codes of the command line."""

import errno

import pytest

from vae_jax import main
from vae_jax.config import ConfigError, flags


class _Unsaved(Exception):
  exit_code = 74


@pytest.mark.parametrize(
  "error, code",
  [
    (ConfigError("x"), 2),
    (KeyboardInterrupt(), 130),
    (OSError(errno.ENOSPC, "full"), 74),
    (OSError(errno.ECONNRESET, "gone"), None),
    (_Unsaved(), 74),
    (RuntimeError("defect"), None),
  ],
)
def test_exit_code_tells_wrong_input_from_defects(error, code):
  assert flags.exit_code(error) == code


def test_help_fits_the_terminal_and_names_the_modes_of_each_flag():
  text = main.usage()
  examples = [line for line in text.splitlines() if "  python" in line]
  lines = [line for line in text.splitlines() if line not in examples]
  assert max(map(len, lines)) <= 90
  assert "  --seconds       [benchmark] Duration" in text
  for name in flags.MODE_FLAGS:
    assert f"  --{name} " in text
