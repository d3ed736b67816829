"""`--mode=evaluate`: every part, or the reason why it is missing."""

import json

import numpy as np
import pytest

from vae_jax.data import datasets
from vae_jax.latents import apply, per_example
from vae_jax.modes import evaluate, evaluate_table
from vae_jax.runtime import devices
from vae_jax.training import experiment, restore
from vae_jax.training import state as state_lib


def _config(folder, **settings):
  c = restore.load_config(folder)
  c.eval.update(settings)
  return c


@pytest.fixture(scope="module")
def evaluated(reference):
  """Everything at once, on a train split large enough for factors."""
  folder, _ = reference
  c = _config(
    folder,
    split="train",
    importance_samples=3,
    disentanglement=True,
    fidelity=True,
    num_samples=40,
    features={"name": "encoder", "args": {"workdir": str(folder)}},
  )
  return folder, evaluate.evaluate(c, str(folder))


def test_result_holds_every_part(evaluated):
  folder, result = evaluated
  assert "not_made" not in result
  assert result["importance_samples"] == 3
  assert 0 < result["nll_stderr"] < result["nll"] < result["neg_elbo"] + 1
  assert 0 <= result["active_units"] <= 3
  assert result["mutual_information_examples"] == result["num_examples"] == 64
  scores = result["disentanglement"]
  assert 0 <= scores["mig"]["mean"] <= 1
  assert result["fidelity"]["num_samples"] == 40
  assert result["fidelity"]["sample_fid"] > 0
  written = json.loads((folder / "eval" / "train.json").read_text())
  assert written == json.loads(json.dumps(result))
  for name in ("latents", "disentanglement_mi", "disentanglement_importance"):
    assert (folder / "eval" / f"{name}.png").exists()
  file = folder / "eval" / "train_latents.json"
  per_dimension = json.loads(file.read_text())
  assert len(per_dimension["aggregate_mean"]) == 3


def test_table_has_a_line_for_every_number(evaluated):
  _, result = evaluated
  lines = evaluate_table.table(result).splitlines()
  by_name = {line.split()[0]: line for line in lines}
  assert by_name["nll"].endswith("nats per image")
  assert f"{result['nll']:.4f}" in by_name["nll"]
  assert by_name["fidelity.num_samples"].split()[1] == "40"
  mig = result["disentanglement"]["mig"]["mean"]
  assert f" {mig:.4f} (" in by_name["disentanglement.mig"]
  assert "[[" not in evaluate_table.table(result)


def test_missing_part_has_a_reason_and_the_others_remain(reference):
  folder, _ = reference
  c = _config(folder, fidelity=True, importance_samples=2)
  c.eval.features.name = "no_such_features"
  result = evaluate.evaluate(c, str(folder))
  assert list(result["not_made"]) == ["fidelity"]
  assert "no_such_features" in result["not_made"]["fidelity"]
  assert result["nll"] > 0 and result["neg_elbo"] > 0
  assert "active_units" in result


def test_missing_factors_have_a_reason(reference, monkeypatch):
  folder, _ = reference

  def none(*args, **kwargs):
    raise datasets.DataError("there are none")

  monkeypatch.setattr(evaluate.ground_truth, "read", none)
  c = _config(folder, disentanglement=True)
  result = evaluate.evaluate(c, str(folder))
  assert result["not_made"] == {"disentanglement": "there are none"}
  assert result["neg_elbo"] > 0


def test_samples_over_devices_equal_those_of_figures(reference):
  folder, state = reference
  c = _config(folder, batch_size=24)
  run = experiment.build(c)
  variables = state_lib.eval_variables(c, state)
  replicated = devices.replicate(variables)
  result = np.concatenate(list(per_example.samples(run, replicated, 30, None)))
  index = np.arange(30, dtype=np.int32)
  expected = apply.sample(run.vae_eval, variables, index, c.sample.seed, 1.0)
  np.testing.assert_allclose(
    result.astype(int), np.asarray(expected).astype(int), atol=1
  )
