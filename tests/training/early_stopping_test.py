"""The end of a run whose validations get no better."""

import pytest

from tests.support.tiny import tiny_config
from vae_jax.train import train
from vae_jax.training import early_stopping, provenance, restore, validations
from vae_jax.training import writer as writer_lib


def test_run_ends_and_resumes_at_the_same_step(faces_dir, tmp_path, caplog):
  caplog.set_level("INFO", "absl")
  settings = {
    "optim__learning_rate": 1e-12,
    "train__validate_every_steps": 2,
    "train__patience": 2,
    "train__steps_per_call": 2,
  }
  state = train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert int(state.step) == 6
  assert "Step 6 is the last one: 2 validations in a row" in caplog.text
  assert "the best one, at step 2, has" in caplog.text
  assert restore.steps(tmp_path)[-1] == 6
  rows = writer_lib.read_rows(tmp_path)
  assert [r["step"] for r in rows if r["split"] == "validation"] == [2, 4, 6]
  again = train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert int(again.step) == 6 and writer_lib.read_rows(tmp_path) == rows
  assert [e["outcome"] for e in provenance.read(str(tmp_path))] == 2 * [
    "finished"
  ]
  # More patience lets it go on; a run that was cut short ends as well.
  settings["train__patience"] = 3
  more = train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert int(more.step) == 8


@pytest.mark.parametrize(
  "scores, over",
  [
    ([3.0, 2.0, 1.0], False),
    ([1.0, 2.0], False),
    ([1.0, 2.0, 1.0], True),
    ([1.0, None, None], True),
    ([None, None, None], True),
    ([2.0, 3.0, 1.0, 4.0], False),
  ],
)
def test_patience_counts_validations_since_the_best(scores, over, tmp_path):
  config = tiny_config("", train__patience=2)
  patience = early_stopping.Patience(config, tmp_path, 0)
  for i, score in enumerate(scores):
    patience.add(10 * (i + 1), score)
  assert patience.is_over() == over
  none = early_stopping.Patience(tiny_config(""), tmp_path, 0)
  none.add(10, None)
  assert not none.is_over()


def test_score_is_the_bound_where_there_is_one():
  assert validations.score({"loss": 1.0, "neg_elbo": 2.0}) == 2
  assert validations.score({"loss": 1.0}) == 1
  for bad in (None, float("nan")):
    assert validations.score({"loss": 1.0, "neg_elbo": bad}) is None
