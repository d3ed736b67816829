"""Jobs of several real processes, with faults."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from tests.support.tiny import assert_trees_equal
from vae_jax.training import restore
from vae_jax.training import writer as writer_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
from tests.support.tiny import tiny_config


def get_config():
  return tiny_config(
    {faces!r},
    data__cache="host",
    data__cache_dir={cache!r},
    train__num_steps={steps},
    train__validate_every_steps=20,
    checkpoint__every_steps=10,
    watch__heartbeat_seconds=5.0,
    train__compilation_cache_dir="",
  )
"""


def arguments(
  folder, faces, *flags, layout=(2, 2), plan=(), restarts=3, steps=40
):
  """Returns arguments of `subprocess` that start the tiny job with faults."""
  folder.mkdir(parents=True, exist_ok=True)
  config = folder / "tiny.py"
  cache = str(folder / "cache")
  config.write_text(CONFIG.format(faces=str(faces), cache=cache, steps=steps))
  (folder / "plan.json").write_text(json.dumps(list(plan)))
  processes, devices = layout
  command = [
    sys.executable,
    str(ROOT / "launch" / "local.py"),
    f"--processes={processes}",
    f"--devices_per_process={devices}",
    f"--restarts={restarts}",
    f"--logs={folder / 'logs'}",
    "--grace=8",
    "--module=tests.support.faulty_main",
    "--",
    f"--config={config}",
    f"--workdir={folder / 'run'}",
    *flags,
  ]
  return {
    "args": command,
    "cwd": ROOT,
    "env": os.environ | {"PYTHONPATH": str(ROOT), "FAULTS": str(folder)},
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
  }


def job(folder, faces, *flags, seconds=500, **settings):
  """Runs the tiny job through launch/local.py; see `arguments`.

  Returns the finished process, with its output, and the workdir.
  """
  call = arguments(folder, faces, *flags, **settings)
  return subprocess.run(**call, timeout=seconds), folder / "run"


def faults(folder):
  """Returns the faults that took place."""
  path = folder / "done.jsonl"
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def log(folder, process):
  """Returns the output of a process."""
  return (folder / "logs" / f"process-{process}.log").read_text()


def rows(workdir):
  """Returns the rows without their speed."""
  return [
    {k: v for k, v in row.items() if k != "images_per_second"}
    for row in writer_lib.read_rows(workdir)
  ]


def assert_undisturbed(workdir, reference):
  """Checks that state and rows are those of an undisturbed run, bit for bit."""
  assert_trees_equal(restore.load_state(workdir), restore.load_state(reference))
  assert rows(workdir) == rows(reference)


def assert_close(workdir, reference):
  """Checks that two layouts end in the same state up to rounding."""
  ours, theirs = (restore.load_state(workdir), restore.load_state(reference))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    ours.params,
    theirs.params,
  )
  ours, theirs = rows(workdir), rows(reference)
  assert [(r["step"], r["split"]) for r in ours] == [
    (r["step"], r["split"]) for r in theirs
  ]
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
