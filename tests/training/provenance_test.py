"""Provenance of a run, whatever its outcome."""

import importlib.metadata
import json
import platform
import sys

import pytest

from tests.support import programs
from tests.support.tiny import tiny_config
from vae_jax import config as config_lib
from vae_jax.runtime import preemption, storage
from vae_jax.train import train
from vae_jax.training import progress, provenance


def test_each_start_of_a_run_has_an_entry(reference, faces_dir):
  folder, _ = reference
  before = provenance.read(str(folder))
  assert (before[0]["from_step"], before[0]["to_step"]) == (0, 20)
  train(tiny_config(faces_dir), str(folder))
  *others, last = provenance.read(str(folder))
  assert others == before
  assert (last["from_step"], last["to_step"]) == (20, 20)
  assert last["config_digest"] == before[0]["config_digest"]
  expected = dict(outcome="finished", sentence="", seed=0, command=sys.argv)
  expected |= dict(python=platform.python_version(), backend="cpu")
  expected |= dict(devices="8 x cpu (cpu)", devices_per_process=8)
  for entry in (before[0], last):
    assert entry == entry | expected | {"code": provenance.code_version()}
    assert entry["started"] <= entry["ended"]
    assert entry["started"].endswith("+00:00")
    (process,) = entry["processes"]
    assert process.startswith(f"process 0 ({platform.node()}")
    assert "device_count=8" in entry["XLA_FLAGS"]
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy"):
      assert entry["packages"][name] == importlib.metadata.version(name)


@pytest.mark.parametrize(
  "error, outcome, sentence",
  [
    (preemption.Interrupted("Stopped."), "interrupted", "Stopped."),
    (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    (progress.Diverged("Not finite."), "diverged", "Not finite."),
    (config_lib.ConfigError("Too large."), "failed", "Too large."),
    (ZeroDivisionError("division"), "failed", "division"),
  ],
)
def test_entry_has_the_outcome_of_the_run(error, outcome, sentence, tmp_path):
  with pytest.raises(type(error)):
    with provenance.keep(str(tmp_path), tiny_config("", seed=7)) as kept:
      kept.began(3)
      kept.step = 11
      raise error
  (entry,) = provenance.read(str(tmp_path))
  assert (entry["outcome"], entry["sentence"]) == (outcome, sentence)
  assert (entry["from_step"], entry["to_step"]) == (3, 11)
  assert entry["ended"] >= entry["started"] and entry["seed"] == 7


def _kill(folder):
  """Leaves what a process leaves that is killed at work after step 5."""
  entry = provenance.describe(tiny_config(""))
  provenance.Record(str(folder), entry).began(5)


def test_start_after_a_kill_adds_an_entry(tmp_path):
  _kill(tmp_path)
  with provenance.keep(str(tmp_path), tiny_config("", train__num_steps=9)):
    killed, running = provenance.read(str(tmp_path))
    assert running["outcome"] == "unknown"
  killed_again, finished = provenance.read(str(tmp_path))
  assert killed == killed_again
  assert (killed["outcome"], killed["ended"]) == ("unknown", None)
  assert (killed["from_step"], killed["to_step"]) == (5, None)
  assert finished["outcome"] == "finished"
  assert finished["config_digest"] != killed["config_digest"]
  assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
  "damage", [lambda b: b[: len(b) // 2], lambda b: b"{}"]
)
def test_damaged_record_is_set_aside(damage, tmp_path):
  _kill(tmp_path)
  path = tmp_path / "record.json"
  damaged = damage(path.read_bytes())
  path.write_bytes(damaged)
  with provenance.keep(str(tmp_path), tiny_config("")) as kept:
    kept.began(6)
  (entry,) = json.loads(path.read_text())
  assert entry["from_step"] == 6
  assert (tmp_path / "record.unreadable.json").read_bytes() == damaged


def test_full_disk_does_not_hide_the_error_of_a_run(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(28, "No space left on device")

  with pytest.raises(progress.Diverged):
    with provenance.keep(str(tmp_path), tiny_config("")):
      monkeypatch.setattr(storage, "write_json", full)
      raise progress.Diverged("Not finite.")
  (entry,) = provenance.read(str(tmp_path))
  assert entry["outcome"] == "unknown"


def _git(folder, *words):
  settings = ["-c", "user.name=a", "-c", "user.email=a@b"]
  return programs.run("git", *settings, *words, cwd=folder).stdout.strip()


def test_code_version_changes_with_the_code(tmp_path, monkeypatch):
  package = tmp_path / "package"
  module = package / "inner" / "b.py"
  module.parent.mkdir(parents=True)
  (package / "__init__.py").write_text("a = 1\n")
  module.write_text("b = 1\n")
  monkeypatch.setattr(provenance, "_FOLDER", package)
  look = provenance.code_version.__wrapped__
  plain = look()
  assert (plain["commit"], plain["dirty"]) == ("", False)
  # Installed into a folder of somebody else's project.
  _git(tmp_path, "init", "--quiet")
  (tmp_path / "other.txt").write_text("")
  _git(tmp_path, "add", "other.txt")
  _git(tmp_path, "commit", "--quiet", "-m", "other")
  assert look() == plain
  _git(tmp_path, "add", ".")
  _git(tmp_path, "commit", "--quiet", "-m", "package")
  clean = look()
  assert clean == {**plain, "commit": _git(tmp_path, "rev-parse", "HEAD")}
  module.write_text("b = 2\n")
  changed = look()
  assert changed["dirty"] and changed["digest"] != clean["digest"]
  module.write_text("b = 1\n")
  module.rename(module.with_name("c.py"))
  assert look()["digest"] not in (clean["digest"], changed["digest"])
