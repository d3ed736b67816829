"""The same numbers however a run is cut up, divided or interrupted."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.helpers import tiny_config
from vae_jax import checkpoint, metrics, parallel, step_log, train
from vae_jax import config as config_lib
from vae_jax.data import pipeline


def _curve(workdir, split="train"):
  rows = [r for r in metrics.read_rows(workdir) if r["split"] == split]
  return np.array([r["loss"] for r in rows])


def _assert_same(a, b):
  flat_a, tree_a = jax.tree.flatten(a)
  flat_b, tree_b = jax.tree.flatten(b)
  assert tree_a == tree_b
  for x, y in zip(flat_a, flat_b, strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, faces_dir):
  folder = tmp_path_factory.mktemp("reference")
  state = train.train(tiny_config(faces_dir), str(folder))
  return folder, state


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_same_curve_on_any_number_of_devices(
  devices, reference, faces_dir, tmp_path, monkeypatch
):
  folder, _ = reference
  chosen = jax.devices()[:devices]
  monkeypatch.setattr(parallel, "devices", lambda: chosen)
  train.train(tiny_config(faces_dir), str(tmp_path))
  np.testing.assert_allclose(_curve(tmp_path), _curve(folder), rtol=1e-5)
  np.testing.assert_allclose(
    _curve(tmp_path, "validation"), _curve(folder, "validation"), rtol=1e-5
  )


@pytest.mark.parametrize(
  "settings",
  [
    {"train__steps_per_call": 1},
    {"train__steps_per_call": 50},
    {"train__accumulate": 2},
    {"data__cache": "host"},
    {"eval__batch_size": 24},
  ],
)
def test_same_curve_however_the_work_is_cut_up(
  settings, reference, faces_dir, tmp_path
):
  folder, _ = reference
  train.train(tiny_config(faces_dir, **settings), str(tmp_path))
  assert len(_curve(tmp_path)) == 20
  np.testing.assert_allclose(_curve(tmp_path), _curve(folder), rtol=1e-5)
  np.testing.assert_allclose(
    _curve(tmp_path, "validation"), _curve(folder, "validation"), rtol=1e-5
  )


def test_dispatches_do_not_change_a_bit(reference, faces_dir, tmp_path):
  _, state = reference
  c = tiny_config(faces_dir, checkpoint__every_steps=3)
  again = train.train(c, str(tmp_path))
  _assert_same(again, state)


def test_another_seed_is_another_run(reference, faces_dir, tmp_path):
  folder, _ = reference
  train.train(tiny_config(faces_dir, seed=1), str(tmp_path))
  assert np.abs(_curve(tmp_path) / _curve(folder) - 1).min() > 1e-4


def _command(workdir, faces_dir, *more):
  script = (
    "import sys; from tests.helpers import tiny_config; "
    "from vae_jax import train; "
    "c = tiny_config(sys.argv[1], checkpoint__every_steps=2, "
    "train__num_steps=80, train__steps_per_call=2, "
    "train__validate_every_steps=40, train__log_every_steps=10); "
    "train.train(c, sys.argv[2])"
  )
  return [sys.executable, "-c", script, str(faces_dir), str(workdir), *more]


def _wait_for_steps(workdir, step, process):
  folder = workdir / "checkpoints"
  while process.poll() is None:
    steps = [p.name for p in folder.glob("*") if p.name.isdigit()]
    if steps and max(map(int, steps)) >= step:
      return
  raise AssertionError(f"the run ended by itself with {process.returncode}")


def test_killed_at_any_moment_it_ends_in_the_same_bits(faces_dir, tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
  subprocess.run(_command(whole, faces_dir), check=True, **quiet)
  # Saves are under way nearly all the time at one save in two steps.
  for step in (2, 30, 60):
    process = subprocess.Popen(_command(killed, faces_dir), **quiet)
    _wait_for_steps(killed, step, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
  subprocess.run(_command(killed, faces_dir), check=True, **quiet)
  _assert_same(checkpoint.load_state(killed), checkpoint.load_state(whole))

  def comparable(workdir):
    rows = metrics.read_rows(workdir)
    for row in rows:
      row.pop("images_per_second", None)
    return rows

  assert comparable(killed) == comparable(whole)


def test_a_signal_saves_and_the_same_command_goes_on(
  reference, faces_dir, tmp_path, monkeypatch
):
  _, state = reference
  c = tiny_config(faces_dir)
  original = pipeline.train_data

  def interrupting(source, start, count, **options):
    if start == 10 and count:
      os.kill(os.getpid(), signal.SIGTERM)
    return original(source, start, count, **options)

  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patch:
    patch.setattr(pipeline, "train_data", interrupting)
    with pytest.raises(train.Interrupted, match=r"Stopped at step") as stopped:
      train.train(c, str(tmp_path))
  assert stopped.value.exit_code == 75
  assert signal.getsignal(signal.SIGTERM) is before
  (step,) = checkpoint.steps(tmp_path)
  assert 0 < step < 20
  assert f"step {step} of 20" in str(stopped.value)
  _assert_same(train.train(c, str(tmp_path)), state)


def test_another_config_on_the_workdir_is_refused(reference, faces_dir):
  folder, state = reference
  c = tiny_config(faces_dir, optim__learning_rate=0.5)
  with pytest.raises(config_lib.ConfigError, match="learning_rate: 0.5 here"):
    train.train(c, str(folder))
  # The same command on a finished run does nothing to it.
  before = metrics.read_rows(folder)
  _assert_same(train.train(tiny_config(faces_dir), str(folder)), state)
  assert metrics.read_rows(folder) == before


def test_an_unreadable_checkpoint_falls_back(
  reference, faces_dir, tmp_path, caplog
):
  _, state = reference
  c = tiny_config(
    faces_dir, checkpoint__every_steps=8, checkpoint__keep_latest=3
  )
  train.train(c, str(tmp_path))
  newest = tmp_path / "checkpoints" / "20"
  for path in newest.rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:10])
  again = train.train(c, str(tmp_path))
  assert "step 20" in caplog.text and "cannot be read" in caplog.text
  assert list((tmp_path / "checkpoints").glob("unreadable-20-*"))
  _assert_same(again, state)


def test_load_params_gives_the_weights(reference):
  folder, state = reference
  _assert_same(checkpoint.load_params(str(folder)), state.params)
  with pytest.raises(config_lib.ConfigError, match="no run in"):
    checkpoint.load_params(str(folder / "nowhere"))


def test_averaged_weights_are_what_is_evaluated(faces_dir, tmp_path):
  c = tiny_config(faces_dir, optim__ema_decay=0.9)
  state = train.train(c, str(tmp_path))
  loaded = checkpoint.load_params(str(tmp_path))
  weight = jax.tree.map(lambda a: a / (1 - 0.9**20), state.ema_params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), loaded, weight
  )
  different = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), loaded, state.params
  )
  assert max(jax.tree.leaves(different)) > 1e-4


def test_exploding_steps_are_skipped_counted_and_end_the_run(
  faces_dir, tmp_path
):
  c = tiny_config(faces_dir, optim__skip_norm=1e-3, train__max_skips_in_row=7)
  with pytest.raises(step_log.Diverged, match="step 7 .gradient norm") as error:
    train.train(c, str(tmp_path))
  assert "7 steps in a row" in str(error.value)


def test_a_step_that_is_not_finite_leaves_the_state_alone(faces_dir, tmp_path):
  c = tiny_config(
    faces_dir, optim__learning_rate=1e30, train__max_skips_in_row=5
  )
  with pytest.raises(step_log.Diverged, match="not finite: .*loss"):
    train.train(c, str(tmp_path))
  rows = metrics.read_rows(tmp_path)
  assert sum(r["skipped"] for r in rows) > 0
  assert json.dumps(rows, allow_nan=False)


def test_what_cannot_work_stops_before_anything_is_written(faces_dir, tmp_path):
  for settings, said in (
    ({"train__batch_size": 12}, "multiple of 8"),
    ({"objective__name": "elbow"}, "Did you mean elbo"),
    ({"objective__args": {"beta": 1.0}}, "unknown to elbo"),
    (
      {"model__encoder__name": "lecture_mnist", "model__encoder__args": {}},
      "28",
    ),
    ({"model__posterior__name": "deterministic"}, "KL divergence"),
    ({"data__image_shape": (8, 8, 1)}, "has images of"),
    ({"data__label": "attributes/Smilin"}, "Smiling"),
    ({"model__encoder__args": {"hiden": (3,)}}, "hiden is unknown"),
  ):
    c = tiny_config(faces_dir, **settings)
    with pytest.raises(config_lib.ConfigError) as error:
      train.train(c, str(tmp_path / "run"))
    assert said in str(error.value), (said, str(error.value))
    assert not (tmp_path / "run").exists()
