"""The programs that measure, run on tiny models."""

import json
import os

import pytest

from launch import measure_scaling as scaling
from tests.support import programs


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
    "import json, sys\n"
    "from launch.measure_safety import one_run\n"
    "from tests.support.tiny import tiny_config\n"
    "c = tiny_config(sys.argv[1], checkpoint__every_steps=5)\n"
    "print(json.dumps([one_run(c, safe=s) for s in (True, False)]))\n"
  )
  done = programs.python("-c", script, faces_dir)
  safe, bare = json.loads(done.stdout.splitlines()[-1])
  assert 0 < safe["standing"] < safe["wall"] and bare["standing"] == 0
  assert safe["watch_cpu"] > 0 == bare["watch_cpu"]
  assert min(safe["cpu"], bare["cpu"], bare["wall"]) > 0


@pytest.mark.slow
def test_measure_scaling_compares_layouts(faces_dir, tmp_path):
  config = programs.tiny_file(tmp_path / "tiny.py", faces_dir)
  output = tmp_path / "out" / "scaling.json"
  words = ["--layouts=1x1,2x2", "--rounds=1", "--seconds=0.1"]
  words += [f"--output={output}", "--", f"--config={config}"]
  done = programs.python("launch/measure_scaling.py", *words)
  found = json.loads(output.read_text())
  assert len(found["ms_per_step"]) == 2
  _, divided = found["last_run"].values()
  assert "4 x cpu" in divided["devices"]
  assert len(done.stdout.splitlines()) == 3
