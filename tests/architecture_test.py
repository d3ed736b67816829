"""Data flows one way: a module imports only from the rooms above its own."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "vae_jax"

# Top to bottom; a line is a module, or a package with its modules' order.
ORDER = """
config command_line terminal
validation
registry
peers roll_call
watch
parallel
storage
ownership
transfer
staging
interruption distributed
data.errors data.locks data.copies data.celeba_files
data.face_pen data.face_factors data.face_hair data.face_drawing
data.synthetic_faces data.preparation data.records data.photos data.factors data.datasets data.cache
data.batch data.preprocess data.pipeline
distributions.latents distributions.mixtures distributions.flows
distributions.pixels
distributions.continuous_pixels distributions.discrete_pixels distributions
models.conv_ops models.layers models.blocks models.encoders models.decoders
models.flow_nets models.critics models.posteriors models.priors models.likelihoods models.vae
models
objectives.terms objectives.global_batch objectives.elbo objectives.constrained
objectives.importance objectives.reparameterized objectives.disentangling
objectives.wasserstein objectives.adversarial objectives.vae_gan
objectives.autoencoders objectives.perceptual objectives
build
muon
optim
train_step
metrics
checkpoint safekeeping
latents
trained
directions curves
judge judge_training
figures.png figures.canvas figures.tiles figures.grids figures.strips figures.plots figures.matrices figures.comparison
figures.edits figures.diagnostics figures.embeddings figures.panels figures
projector
evaluate.per_example evaluate.diagnostics evaluate.likelihood
evaluate.factor_scores evaluate.fixed_factors evaluate.disentanglement
evaluate.distances evaluate.bounds evaluate.edits
pictures
evaluate.features evaluate.fidelity evaluate.report evaluate.report_table
progress
step_log record
workdir
flops memory collectives
startup
train
benchmark
comparison_table
compare
modes.options modes.images modes.codes modes.drawing modes.traversing modes.attributes modes.edit
modes.export_card modes.export modes.embed modes.lesson
explore.survey explore.maps explore.studio explore.markup explore.style
explore.page explore.guard explore.server explore.latency
main
""".split()
# Packages with nothing but a docstring.
PLAIN = {"data", "evaluate", "explore", "modes"}


def _name(path):
  parts = path.relative_to(PACKAGE).with_suffix("").parts
  return ".".join(p for p in parts if p != "__init__")


def _modules():
  return {_name(p): p for p in PACKAGE.rglob("*.py")} | {}


def _imports(path):
  """Yields the modules of this package that a file imports, lazily too."""
  known = _modules()
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
      while inner and inner not in known:
        inner = inner.rpartition(".")[0]
      if inner:
        yield inner


def test_every_module_has_its_place():
  assert set(_modules()) - PLAIN - {""} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_come_from_above(name):
  above = set(ORDER[: ORDER.index(name)]) | PLAIN
  wrong = [i for i in _imports(_modules()[name]) if i not in above]
  assert not wrong


def test_only_parallel_says_pmap():
  said = {n for n, p in _modules().items() if "jax.pmap" in p.read_text()}
  assert said == {"parallel"}


def test_no_file_is_crowded():
  long = {
    n: len(p.read_text().splitlines())
    for n, p in _modules().items()
    if len(p.read_text().splitlines()) > 350
  }
  assert not long
