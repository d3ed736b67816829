"""The modes of the command line: `--mode=x` is `x.py`, or the package `x/`.

A mode is a module with a function `run(config, workdir, *, ...)`, of the
resolved config and the folder of the run, that returns the text to print. Its
keyword arguments are the flags that the mode reads, and the first line of the
module's docstring is its help text. Constants, all but the first optional:

  NEEDS   "run": the config of the trained run in the workdir;
          "config": the config of the command line; "nothing": config is None
  SHARED  True: several processes may run the mode together
  OTHER_DATA  True: config.data.* may name other data than the trained run's
  PREFIX  start of the default workdir's name: runs/<PREFIX>_<config>

The table is read from the source, so that --help imports no mode.
"""

import ast
import dataclasses
import difflib
import functools
import importlib
import pathlib
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Mode:
  """A mode, as its source describes it; see above."""

  name: str
  summary: str
  flags: tuple[str, ...]
  needs: str
  shared: bool = False
  other_data: bool = False
  prefix: str = ""

  def check(self, names: Iterable[str]) -> None:
    """Raises a ConfigError if the mode does not read one of the flags."""
    for flag in names:
      if flag not in self.flags:
        readers = [m.name for m in table().values() if flag in m.flags]
        raise ConfigError(
          f"--{flag} is for --mode={' or '.join(readers)}, not {self.name}."
        )

  def run(
    self, config: ConfigDict | None, workdir: str, values: dict[str, Any]
  ) -> str:
    """Runs the mode with values of its flags; returns the text to print."""
    module = importlib.import_module(f"{__name__}.{self.name}")
    return module.run(config, workdir, **values)


@functools.cache
def table() -> dict[str, Mode]:
  """Returns all modes by name."""
  folder = pathlib.Path(__file__).parent
  paths = {path.stem: path for path in folder.glob("*.py")}
  paths |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
  modes = {name: _read(name, paths[name].read_text()) for name in sorted(paths)}
  return {name: mode for name, mode in modes.items() if mode is not None}


def find(name: str) -> Mode:
  """Returns the mode of a name, or raises a ConfigError."""
  if name not in table():
    near = difflib.get_close_matches(name, table(), n=1)
    hint = f"did you mean {near[0]}? Allowed" if near else "allowed"
    raise ConfigError(f"--mode is {name!r}; {hint} are {', '.join(table())}.")
  return table()[name]


def _read(name: str, source: str) -> Mode | None:
  """Returns the mode that a source file holds, None for other files."""
  tree = ast.parse(source)
  run, constants = None, {}
  for node in tree.body:
    match node:
      case ast.FunctionDef(name="run"):
        run = node
      case ast.Assign(
        targets=[
          ast.Name(id="NEEDS" | "SHARED" | "OTHER_DATA" | "PREFIX" as constant)
        ]
      ):
        constants[constant.lower()] = ast.literal_eval(node.value)
  if run is None:
    return None
  return Mode(
    name=name,
    summary=ast.get_docstring(tree).partition("\n")[0],
    flags=tuple(argument.arg for argument in run.args.kwonlyargs),
    **constants,
  )
