"""The end of a run whose validations get no better."""

import itertools
import shutil

import pytest

from tests.support.tiny import assert_trees_equal, tiny_config
from vae_jax.evaluate import validation
from vae_jax.runtime import preemption
from vae_jax.train import train
from vae_jax.training import (
  early_stopping,
  provenance,
  restore,
  store,
  validations,
)
from vae_jax.training import loop as loop_lib
from vae_jax.training import writer as writer_lib


def _config(faces_dir, **settings):
  defaults = {
    "optim__learning_rate": 1e-12,
    "train__validate_every_steps": 2,
    "train__patience": 2,
    "train__steps_per_call": 2,
  }
  return tiny_config(faces_dir, **defaults | settings)


def _validations(folder):
  return [r for r in writer_lib.read_rows(folder) if r["split"] == "validation"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory, faces_dir):
  """Returns the workdir and the state of a run that ended by itself."""
  folder = tmp_path_factory.mktemp("ended")
  return folder, train(_config(faces_dir), str(folder))


def test_run_ends_and_resumes_at_the_same_step(
  ended, faces_dir, tmp_path, caplog
):
  caplog.set_level("INFO", "absl")
  _, state = ended
  folder = tmp_path / "run"
  shutil.copytree(ended[0], folder)
  assert int(state.step) == 6 and restore.steps(folder)[-1] == 6
  rows = writer_lib.read_rows(folder)
  assert [row["step"] for row in _validations(folder)] == [2, 4, 6]
  assert_trees_equal(train(_config(faces_dir), str(folder)), state)
  assert writer_lib.read_rows(folder) == rows
  assert "Step 6 is the last one: 2 validations in a row" in caplog.text
  assert "the best one, at step 2, has" in caplog.text
  outcomes = [e["outcome"] for e in provenance.read(str(folder))]
  assert outcomes == ["finished", "finished"]
  # More patience lets it go on.
  more = train(_config(faces_dir, train__patience=3), str(folder))
  assert int(more.step) == 8


@pytest.mark.parametrize(
  "owner, name, step",
  [(store.Store, "save", 6), (validation.Validation, "score", 4)],
)
def test_killed_run_ends_at_the_same_step(
  owner, name, step, ended, faces_dir, tmp_path, monkeypatch
):
  original = getattr(owner, name)

  def killed(self, state, *rest):
    if int(state.step) == step:
      raise RuntimeError("killed")
    return original(self, state, *rest)

  config = _config(faces_dir)
  with monkeypatch.context() as patch:
    patch.setattr(owner, name, killed)
    with pytest.raises(RuntimeError, match="killed"):
      train(config, str(tmp_path))
  assert_trees_equal(train(config, str(tmp_path)), ended[1])
  assert _validations(tmp_path) == _validations(ended[0])


def test_stopped_run_ends_at_the_same_step(
  ended, faces_dir, tmp_path, monkeypatch
):
  """A signal comes instead of a validation."""
  monkeypatch.setattr(loop_lib, "control", _stop_after(2, loop_lib.control))
  config = _config(faces_dir)
  with pytest.raises(preemption.Interrupted, match="Stopped at step 4"):
    train(config, str(tmp_path))
  assert [row["step"] for row in _validations(tmp_path)] == [2]
  monkeypatch.undo()
  assert_trees_equal(train(config, str(tmp_path)), ended[1])
  assert _validations(tmp_path) == _validations(ended[0])


def _stop_after(dispatches, control):
  calls = itertools.count()
  # The first call is that of the compiler.
  return lambda count, stop: control(count, next(calls) >= dispatches)


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
