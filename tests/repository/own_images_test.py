"""The README's page about one's own images, run on pictures made here."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.repository import readme_test
from tests.support import pictures

TEXT = (readme_test.ROOT / "vae_jax" / "data" / "README.md").read_text()
PAGE = TEXT.partition("## Your own images")[2].partition("\n## ")[0]
# Smaller than what the page asks for.
SMALL = (
  "--config.train.num_steps=2 --config.train.batch_size=8 "
  "--config.eval.batch_size=8 --config.optim.optimizer.name=adam"
).split()
CONV = [
  f"--config.model.{part}.args.channels=(4,)" for part in ("encoder", "decoder")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("page")
  (root / "configs").symlink_to(readme_test.ROOT / "configs")
  names = [f"{i:02d} ü.jpg" for i in range(20)]
  images = pictures.noise(20, 70, 60, 3)
  pictures.write(root / "photos", images, names, "jpeg")
  (example,) = re.findall(r"^    (file_name,.*)$", PAGE, re.M)
  rows = [f"{name},{i % 2}" for i, name in enumerate(names)]
  table = root / "photos" / "metadata.csv"
  table.write_text("\n".join([example, *rows]))
  digits = pictures.noise(20, 28, 28)
  np.savez(root / "digits.npz", image=digits, label=np.arange(20) % 10)
  return root


def words_of(command):
  words = [sys.executable, "-u", *shlex.split(command)[1:]]
  if "--config=" in command:
    words += SMALL + (CONV if "faces" in command else [])
  elif "--mode=edit" in command:
    words += ["--direction=mean", "--strength=-1:1:1"]
  return words


def test_commands_of_the_page_work(folder):
  commands = re.findall(r"^ {4}(python -m .*)$", PAGE, re.M)
  assert len(commands) == 6
  environment = {**os.environ, "PYTHONPATH": str(readme_test.ROOT)}
  # One device.
  flags = re.sub(r"\S*device_count=\d+", "", environment["XLA_FLAGS"])
  environment["XLA_FLAGS"] = flags.strip()
  settings = {"cwd": folder, "env": environment, "text": True}
  settings |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
  for trains in (True, False):
    # At the same time; the others use the model of the first.
    now = [c for c in commands if ("--config=" in c) == trains]
    started = [subprocess.Popen(words_of(c), **settings) for c in now]
    for command, process in zip(now, started, strict=True):
      _, text = process.communicate(timeout=300)
      assert process.returncode == 0, text
      if "folder:" in command:
        assert "20 images of 70x60 pixels" in text
        assert "1 attributes: Smiling 10" in text
        assert "config.data.resize=64 changes the proportions" in text
  assert (folder / "runs" / "mine" / "figures" / "reconstructions.png").exists()


def test_python_of_the_page_works(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
  images = pictures.noise(16, 16, 16, 1)
  names = {"images": images, "labels": np.arange(16) % 2}
  small = "2\nc.train.batch_size = 8\nc.model.latent_dim = 5\n"
  small += "c.model.encoder.name = c.model.decoder.name = 'mlp'"
  exec(code.replace("2000", small), names)
  assert names["codes"].shape == (16, 5)
  assert names["decoded"].shape == images.shape
