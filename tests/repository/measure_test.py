"""The programs that measure, run on tiny models."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _program(name):
  path = ROOT / "launch" / f"{name}.py"
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look up their module by its name.
  sys.modules[name] = module
  spec.loader.exec_module(module)
  return module


scaling = _program("measure_scaling")


def test_layouts_have_equal_work_per_core(monkeypatch):
  monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
  args = scaling.parse(
    ["--layouts=1x1,4x2,1x1@1", "--batch_size=64", "--", "--config=a.py"]
  )
  words = [scaling.command(args, layout, "f") for layout in args.layouts]
  batches = [w for row in words for w in row if "train.batch_size" in w]
  assert [b.partition("=")[2] for b in batches] == ["64", "64", "16"]
  assert "--processes=4" in words[1] and "--devices_per_process=2" in words[1]
  assert "--config=a.py" in words[0][words[0].index("--") :]
  assert [str(layout) for layout in args.layouts] == ["1x1@4", "4x2@4", "1x1@1"]


@pytest.mark.parametrize(
  "words, message",
  [
    (["--layouts=4", "--", "a"], "no layout"),
    (["--layouts=1x1@9", "--", "a"], "needs 9 cores, but there are 4"),
    (["--batch_size=60", "--", "a"], "a multiple of 32 can"),
    ([], "nothing to run"),
    (["--rounds=0", "--", "a"], "1 or more"),
  ],
)
def test_wrong_flags_get_one_sentence(words, message, monkeypatch, capsys):
  monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
  with pytest.raises(SystemExit) as stopped:
    scaling.parse(words)
  assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_ratios_are_taken_within_rounds():
  # The third round was slow for both.
  times = {"1x1@4": [1.0, 2.0, 10.0], "4x2@4": [1.5, 2.2, 11.0]}
  summary = scaling.summarize(times)
  assert summary["1x1@4"]["median_ratio"] == summary["1x1@4"]["min_ratio"] == 1
  row = summary["4x2@4"]
  assert (row["median_ms"], row["min_ms"]) == (2.2, 1.5)
  assert row["median_ratio"] == pytest.approx(1.1)
  assert row["min_ratio"] == pytest.approx(1.5)
  lines = scaling.table(summary).splitlines()
  assert lines[2].split() == ["4x2@4", "2.20", "1.50", "1.100", "1.500"]


@pytest.mark.slow
def test_measure_safety_switches_safety_off(faces_dir):
  # In another process, because its flags are global.
  script = (
    "import importlib.util, json, sys\n"
    "spec = importlib.util.spec_from_file_location('m', sys.argv[1])\n"
    "m = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(m)\n"
    "from tests.support.tiny import tiny_config\n"
    "c = tiny_config(sys.argv[2], checkpoint__every_steps=5)\n"
    "print(json.dumps([m.one_run(c, safe=s) for s in (True, False)]))\n"
  )
  path = ROOT / "launch" / "measure_safety.py"
  done = subprocess.run(
    [sys.executable, "-c", script, str(path), str(faces_dir)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  safe, bare = json.loads(done.stdout.splitlines()[-1])
  assert 0 < safe["standing"] < safe["wall"] and bare["standing"] == 0
  assert safe["watch_cpu"] > 0 == bare["watch_cpu"]
  assert min(safe["cpu"], bare["cpu"], bare["wall"]) > 0


@pytest.mark.slow
def test_measure_scaling_compares_layouts(faces_dir, tmp_path):
  config = tmp_path / "tiny.py"
  config.write_text(
    "from tests.support.tiny import tiny_config\n\n\ndef get_config():\n"
    f"  return tiny_config({str(faces_dir)!r})\n"
  )
  output = tmp_path / "out" / "scaling.json"
  words = ["--layouts=1x1,2x2", "--rounds=1", "--seconds=0.1"]
  done = subprocess.run(
    [sys.executable, str(ROOT / "launch" / "measure_scaling.py"), *words]
    + [f"--output={output}", "--", f"--config={config}"],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(output.read_text())
  assert len(found["ms_per_step"]) == 2
  _, divided = found["last_run"].values()
  assert "4 x cpu" in divided["devices"]
  assert len(done.stdout.splitlines()) == 3
