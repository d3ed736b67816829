"""Checkpoints open without the optimizer's state."""

import ast
import json
import pathlib
import shutil

import pytest

from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.train import train
from vae_jax.training import restore, stored_state


@pytest.fixture(params=["today", "sums of the first release", "no sums"])
def run(request, reference, tmp_path):
  """Returns a run whose optimizer has another state than its config says."""
  folder = tmp_path / "run"
  shutil.copytree(reference[0], folder)
  path = folder / "config.json"
  tree = json.loads(path.read_text())
  tree["optim"]["optimizer"]["name"] = "sgd"
  path.write_text(json.dumps(tree))
  sums = folder / "checkpoints/20/checksum"
  if request.param == "no sums":
    shutil.rmtree(sums)
  elif request.param != "today":
    stored = json.loads((sums / "metadata").read_text())
    assert stored == stored_state.checksums(reference[1])
    del stored["weights_crc32"]
    (sums / "metadata").write_text(json.dumps(stored))
  return folder


def test_weights_open_whatever_the_optimizer_was(run, reference):
  model = trained_model.load(run)
  assert model.step == 20
  assert_trees_equal(model.variables["params"], reference[1].params)
  with pytest.raises(ConfigError, match=f"--config.init_from={run}"):
    restore.load_state(run)


def test_only_resuming_reads_the_state_of_an_optimizer():
  resumes, opens = set(), set()
  for path in pathlib.Path(restore.__file__).parents[1].rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text())):
      if not isinstance(node, ast.Call):
        continue
      name = ast.unparse(node.func).rpartition(".")[2]
      if name == "restore_or_init":
        resumes.add(path.stem)
      elif name == "load_state":
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert keywords.get("weights") == "True", path
        opens.add(path.stem)
  assert resumes == {"train"} and "trained_model" in opens


def test_finished_run_without_rows_still_opens(reference, faces_dir, tmp_path):
  folder, state = reference
  shutil.copytree(folder, tmp_path / "run")
  (tmp_path / "run/metrics.jsonl").unlink()
  again = train(tiny_config(faces_dir), str(tmp_path / "run"))
  assert_trees_equal(again, state)
  assert trained_model.load(tmp_path / "run").step == 20
