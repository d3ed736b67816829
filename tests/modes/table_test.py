"""The table of modes is read from their source."""

import importlib
import inspect

import pytest

from vae_jax import modes
from vae_jax.config import ConfigError, flags

MODES = (
  *("attributes", "benchmark", "compare", "decode", "edit", "embed"),
  *("evaluate", "explore", "export", "fit_density", "interpolate", "lesson"),
  *("manifold", "reconstruct", "sample", "score", "train", "traverse"),
)


def test_table_holds_all_modes():
  assert tuple(modes.table()) == MODES
  shared = {m.name for m in modes.table().values() if m.shared}
  assert shared == {"train", "evaluate", "benchmark"}
  needs = {m.name: m.needs for m in modes.table().values()}
  assert {n for n in needs if needs[n] == "nothing"} == {"compare"}
  of_config = {n for n in needs if needs[n] == "config"}
  assert of_config == {"train", "benchmark", "lesson"}


@pytest.mark.parametrize("name", MODES)
def test_source_equals_imported_module(name):
  mode = modes.find(name)
  module = importlib.import_module(f"vae_jax.modes.{name}")
  parameters = inspect.signature(module.run).parameters.values()
  keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
  assert tuple(keywords) == mode.flags
  assert module.NEEDS == mode.needs
  assert mode.summary.endswith(".") and len(mode.summary) <= 76
  assert module.__doc__.startswith(mode.summary)


def test_every_flag_is_read_by_a_mode():
  read = {flag for mode in modes.table().values() for flag in mode.flags}
  assert read == set(flags.MODE_FLAGS)


def test_flags_of_other_modes_are_refused():
  modes.find("sample").check(["count"])
  with pytest.raises(
    ConfigError,
    match="--images is for --mode=edit or embed or interpolate or reconstruct "
    "or score or traverse, not sample",
  ):
    modes.find("sample").check(["count", "images"])


@pytest.mark.parametrize(
  "name, message", [("smaple", "did you mean sample"), ("x", "'x'; allowed")]
)
def test_unknown_mode_is_refused(name, message):
  with pytest.raises(ConfigError, match=message):
    modes.find(name)
