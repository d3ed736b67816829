"""A run written by an earlier commit opens, samples, evaluates and resumes."""

import json
import pathlib
import tarfile

import jax
import numpy as np

import vae_jax
from vae_jax import config as config_lib

_ARCHIVE = pathlib.Path(__file__).parents[1] / "support/run_of_04bd97b.tar.gz"


def test_an_old_run_opens_and_resumes_to_the_numbers_it_would_have_had(
  tmp_path, faces_dir, monkeypatch
):
  """It was stopped at step 18 of 20; the archive has its state at step 20."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(faces_dir))
  with tarfile.open(_ARCHIVE) as archive:
    archive.extractall(tmp_path, filter="data")
  workdir, final = tmp_path / "run", dict(np.load(tmp_path / "final.npz"))
  model = vae_jax.load(workdir)
  assert model.step == 18
  images = model.sample(4)
  assert images.shape == (4, 16, 16, 1) and images.std() > 0
  config = config_lib.from_json((workdir / "config.json").read_text())
  state = vae_jax.train(config, str(workdir))
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  assert len(leaves) == len(final)
  for path, value in leaves:
    expected = final[jax.tree_util.keystr(path)]
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(row)["step"] for row in rows if '"train"' in row]
  assert steps == list(range(1, 21))
