"""The command line as a person meets it: one sentence, and a code."""

import functools
import sys

import pytest

from tests.support import programs
from vae_jax import modes

run = functools.partial(programs.python, "-m", "vae_jax.main")


def test_help_explains_modes_and_gives_examples():
  done = run("--help")
  for word in ("train", "evaluate", "sample", "benchmark", "--config", "75"):
    assert word in done.stdout
  examples = [x for x in done.stdout.splitlines() if "  python -m" in x]
  assert len(examples) == 4
  for mode in modes.table().values():
    assert f"  {mode.name:<12} {mode.summary}\n" in done.stdout


def test_a_reader_may_take_a_part(tmp_path):
  words = (
    f"{sys.executable} -m vae_jax.main --help | head -1; echo ${{PIPESTATUS}}"
  )
  done = programs.run("bash", "-c", words)
  assert done.stdout == "Trains and evaluates variational autoencoders.\n0\n"
  assert done.stderr == ""


@pytest.mark.parametrize(
  "words, message",
  [
    ([], "Name a config"),
    (["--config=configs/nope.py"], "There is no config file configs/nope.py"),
    (["--config=configs/iwae_mnist.py:shrt"], "allowed are full, short"),
    (["--config=configs/mnist.py:short"], "configs/mnist.py has no variants"),
    (
      ["--config=configs/mnist.py", "--mode=trian"],
      "'trian'; did you mean train? Allowed are",
    ),
    (["--config=configs/mnist.py", "--config.sed=1"], "mean config.seed"),
    (["--config=configs/mnist.py", "--config.seed=a"], "config.seed=a"),
    (["--workdir=x", "--config.seed=1"], "--mode=train needs a config"),
    (["--config=configs/mnist.py", "train"], "'train' is no flag"),
    (["--confg=x"], "Did you mean: config"),
    (["--mode=train", "--workdir=x"], "needs a config"),
    (["--mode=evaluate", "--workdir=nowhere"], "There is no run in nowhere"),
    (
      ["--config=configs/mnist.py", "--config.data.dir=/nowhere/at/all"],
      "/nowhere/at/all",
    ),
  ],
)
def test_wrong_words_get_one_sentence(words, message, tmp_path):
  if not words or "--config=configs" in words[0]:
    words = [*words, f"--workdir={tmp_path / 'run'}"] if words else words
  done = run(*words, code=2)
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert len(done.stderr.strip().splitlines()) <= 2
  assert not (tmp_path / "run").exists()


def test_a_variant_of_a_config_has_a_folder_of_its_own(tmp_path):
  file = programs.ROOT / "configs" / "iwae_mnist.py"
  words = f"--config={file}:short", "--mode=evaluate"
  done = run(*words, code=2, cwd=tmp_path)
  assert "There is no run in runs/iwae_mnist_short" in done.stderr


@pytest.mark.parametrize(
  "line, message",
  [
    ("c.optim.learning_rat = 1.0", "'learning_rat', which is no setting"),
    ("c.seed = 'one'", "seed"),
  ],
)
def test_a_wrong_line_in_a_config_file(line, message, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from vae_jax import config\n\n\ndef get_config():\n"
    f"  c = config.default()\n  {line}\n  return c\n"
  )
  done = run(f"--config={path}", code=2)
  assert str(path) in done.stderr and message in done.stderr
  assert "Traceback" not in done.stderr


def test_train_evaluate_and_sample(faces_dir, tmp_path):
  config = programs.tiny_file(tmp_path / "tiny.py", faces_dir)
  here = functools.partial(
    run, f"--config={config}", cwd=tmp_path, XLA_FLAGS=""
  )
  done = here()
  for word in ("devices", "synthetic_faces", "parameters", "MFLOP", "output"):
    assert word in done.stderr
  workdir = tmp_path / "runs" / "tiny"
  done = here("--mode=evaluate")
  assert "neg_elbo" in done.stdout and "bits_per_dim" in done.stdout
  assert (workdir / "eval" / "test.json").exists()
  words = "--mode=evaluate", "--config.model.latent_dim=7"
  assert "trained with 3" in here(*words, code=2).stderr
  run("--workdir=runs/tiny", "--mode=sample", cwd=tmp_path, XLA_FLAGS="")
  assert (workdir / "figures" / "samples.npz").exists()
