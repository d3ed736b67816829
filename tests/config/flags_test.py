"""Help texts and exit codes of the command line."""

import collections
import errno
import os
import sys

import pytest

from vae_jax import main
from vae_jax.config import ConfigError, exits, flags

_Flag = collections.namedtuple("_Flag", ["name", "value"])


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
    (MemoryError("Unable to allocate 3 GiB"), 71),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "runs/x"), 2),
    (FileNotFoundError(errno.ENOENT, "gone"), None),
    (RuntimeError("defect"), None),
  ],
)
def test_exit_code_tells_wrong_input_from_defects(error, code):
  assert exits.exit_code(error) == code


def test_help_fits_the_terminal_and_names_the_modes_of_each_flag():
  text = main.usage()
  examples = [line for line in text.splitlines() if "  python" in line]
  lines = [line for line in text.splitlines() if line not in examples]
  assert max(map(len, lines)) <= 90
  assert "  --seconds       [benchmark] Duration" in text
  for name in flags.MODE_FLAGS:
    assert f"  --{name} " in text


def test_a_wrong_file_is_named():
  error = FileExistsError(errno.EEXIST, "File exists", "runs/x/figures")
  assert (
    exits.words(error) == "runs/x/figures is a file where a folder belongs."
  )
  full = OSError(errno.ENOSPC, "No space left on device", "runs/x/a.csv")
  sentence = "runs/x/a.csv cannot be written: No space left on device."
  assert exits.words(full) == sentence
  assert exits.words(MemoryError()).endswith("little memory (MemoryError).")
  assert exits.words(ConfigError("No.")) == "No."
  assert exits.words(KeyboardInterrupt()) == "Stopped."


def test_a_flag_is_a_finite_number(monkeypatch):
  monkeypatch.setattr(flags, "_OF_MODES", (_Flag("seconds", float("nan")),))
  with pytest.raises(
    ConfigError, match="--seconds is nan; it must be a finite"
  ):
    flags.values()
  monkeypatch.setattr(flags, "_OF_MODES", (_Flag("seconds", 2.0),))
  assert flags.values() == {"seconds": 2.0}


def test_traces_have_all_frames_on_request(monkeypatch, capsys):
  words = ["main", "--traceback", "--config=no.py"]
  monkeypatch.setattr(sys, "argv", words)
  monkeypatch.setenv("JAX_TRACEBACK_FILTERING", "auto")
  with pytest.raises(SystemExit) as ended:
    flags.parse(words, main.usage)
  assert ended.value.code == 2
  assert os.environ["JAX_TRACEBACK_FILTERING"] == "off"
  text = capsys.readouterr().err
  assert text.startswith("Traceback")
  assert text.endswith("There is no config file no.py.\n")
