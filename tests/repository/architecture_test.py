"""The order of packages: imports come from above, and none forms a cycle."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "vae_jax"

# A package, or a module beside them, imports only from itself and those above.
ORDER = """config runtime data distributions figures models objectives training
latents evaluate train modes main""".split()


def _name(path):
  parts = path.relative_to(PACKAGE).with_suffix("").parts
  return ".".join(p for p in parts if p != "__init__")


MODULES = {_name(p): p for p in PACKAGE.rglob("*.py")}


def _imports(path):
  """Yields the modules of this package that a file imports, lazily too."""
  for node in ast.walk(ast.parse(path.read_text())):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"relative import in {path}"
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
      if name.split(".")[0] != "vae_jax":
        continue
      inner = name.removeprefix("vae_jax").lstrip(".")
      while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
      if inner:
        yield inner


def test_the_layout_is_the_order():
  assert {n.split(".")[0] for n in MODULES if n} == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_imports_come_from_above(package):
  above = ORDER[: ORDER.index(package) + 1]
  wrong = [
    f"{name} imports {other}"
    for name, path in MODULES.items()
    if name.split(".")[0] == package
    for other in _imports(path)
    if other.split(".")[0] not in above
  ]
  assert not wrong


def test_no_modules_import_one_another():
  graph = {n: set(_imports(p)) - {n} for n, p in MODULES.items()}
  graphlib.TopologicalSorter(graph).prepare()


def test_only_devices_says_pmap():
  said = {n for n, p in MODULES.items() if "jax.pmap" in p.read_text()}
  assert said == {"runtime.devices"}


def test_no_file_is_crowded():
  lines = {n: len(p.read_text().splitlines()) for n, p in MODULES.items()}
  assert not {n: count for n, count in lines.items() if count > 350}
