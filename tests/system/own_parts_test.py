"""Parts of one's own, as the README has them, work in every mode."""

import functools
import os
import re

import numpy as np
import pytest

from tests.support import programs
from tests.support.tiny import curve, tiny_config, tiny_experiment
from tests.system import cli_test
from vae_jax.config import ConfigError
from vae_jax.latents import trained_model
from vae_jax.modes import evaluate, export, sample
from vae_jax.train import train
from vae_jax.training import contracts, restore

READMES = [
  programs.ROOT / "vae_jax" / package / "README.md"
  for package in ("models", "objectives")
]
PARTS = {
  "encoder": "MyEncoder",
  "decoder": "MyDecoder",
  "posterior": "LaplacePosterior",
  "prior": "GumbelPrior",
  "likelihood": "CauchyPixels",
}


@pytest.fixture(scope="module", autouse=True)
def my_parts(tmp_path_factory):
  """Writes the READMEs' parts to a module on the path."""
  folder = tmp_path_factory.mktemp("own")
  text = "".join(readme.read_text() for readme in READMES)
  blocks = re.findall(r"```python\n(.*?)```", text, re.S)
  for block in blocks:
    for part in block.split("\n\n\n"):
      lines = [x for x in part.splitlines() if x and "import" not in x]
      assert len(lines) <= 12
  (folder / "my_parts.py").write_text("\n\n".join(blocks))
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(folder)
    yield


def _config(data_dir, *kinds):
  c = tiny_config(data_dir)
  for kind in kinds:
    c.model[kind].name = f"my_parts.{PARTS[kind]}"
    c.model[kind].args = {}
  c.objective.name = "my_parts.my_loss"
  c.objective.args = {}
  return c


@pytest.mark.parametrize("kind", PARTS)
def test_each_part_alone_fulfills_its_contract(kind):
  contracts.check(tiny_experiment(_config("", kind)))


def test_all_parts_train_evaluate_sample_and_export(
  faces_dir, tmp_path, monkeypatch
):
  c = _config(faces_dir, *PARTS)
  c.model.encoder.args.width = 2
  c.eval.importance_samples = 2
  c.sample.temperature = 0.5
  train(c, str(tmp_path))
  losses = curve(tmp_path)
  assert np.isfinite(losses).all() and losses[-1] < losses[0]
  assert (tmp_path / "figures" / "samples.png").exists()

  c = restore.load_config(tmp_path)
  result = evaluate.evaluate(c, str(tmp_path))
  assert {"neg_elbo", "squared_error", "nll"} <= result.keys()
  assert np.isfinite(result["bits_per_dim"])
  why = result["not_made"]["latents"]
  assert why.endswith("LaplacePosterior' is Laplace.")
  sample.run(c, str(tmp_path), count=4)
  assert len(np.load(tmp_path / "figures" / "samples.npz")["images"]) == 4
  programs = export.programs(trained_model.load(tmp_path))
  assert all(len(program) > 1000 for program in programs.values())

  # A part that changed since is named before its weights are read.
  import my_parts as own

  monkeypatch.setattr(own.Gumbel, "sample", lambda self, key: key)
  with pytest.raises(ConfigError, match="GumbelPrior.*in sample: TypeError"):
    trained_model.load(tmp_path)


WRONG = """
import jax.numpy as jnp
from vae_jax.objectives import Terms


def loss(vae, batch):
  mu, logvar = vae.encode(batch.image)
  return Terms(loss=mu, distortion=mu)
"""


def test_the_command_line_names_the_line_and_shows_all_on_request(
  faces_dir, tmp_path
):
  (tmp_path / "wrong.py").write_text(WRONG)
  programs.tiny_file(tmp_path / "tiny.py", faces_dir)
  words = ["--config=tiny.py", "--config.objective.name=wrong.loss"]
  path = f"{programs.ROOT}{os.pathsep}{tmp_path}"
  run = functools.partial(cli_test.run, cwd=tmp_path, PYTHONPATH=path)
  done = run(*words, code=2)
  assert done.stderr.startswith(
    "config.objective.name is 'wrong.loss' (wrong.py, line 6), which fails in "
    "training, at wrong.py, line 7: TypeError: cannot unpack non-iterable"
  )
  assert done.stderr.count("\n") == 1
  assert not (tmp_path / "runs").exists()
  # Without JAX, which a config file does not need.
  (tmp_path / "tiny.py").write_text("a = 1 / 0\n")
  shown = run("--config=tiny.py", "--traceback", code=2)
  assert 'tiny.py", line 1' in shown.stderr
  assert shown.stderr.endswith("ZeroDivisionError: division by zero.\n")
