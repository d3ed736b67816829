"""Jobs of several real processes, with faults."""

import json
import os
import subprocess
import sys

import jax
import numpy as np

from tests.support.programs import ROOT, tiny_file
from tests.support.tiny import assert_trees_equal
from vae_jax.training import restore
from vae_jax.training import writer as writer_lib


def launch(folder, own, flags, **environment):
  """Returns arguments of `subprocess` for launch/local.py.

  Args:
    folder: where to write logs.
    own: flags of the launcher.
    flags: of the job.
    environment: more variables.
  """
  program = [sys.executable, str(ROOT / "launch" / "local.py")]
  return {
    "args": [*program, f"--logs={folder / 'logs'}", *own, "--", *flags],
    "cwd": ROOT,
    "env": os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
  }


def arguments(
  folder, faces, *flags, layout=(2, 2), plan=(), restarts=3, steps=40
):
  """Returns arguments of `subprocess` that start the tiny job with faults."""
  folder.mkdir(parents=True, exist_ok=True)
  settings = dict(data__cache="host", data__cache_dir=str(folder / "cache"))
  settings |= dict(train__num_steps=steps, train__validate_every_steps=20)
  settings |= dict(checkpoint__every_steps=10, watch__heartbeat_seconds=3.0)
  settings |= dict(train__compilation_cache_dir="")
  config = tiny_file(folder / "tiny.py", faces, **settings)
  (folder / "plan.json").write_text(json.dumps(list(plan)))
  own = [
    f"--processes={layout[0]}",
    f"--devices_per_process={layout[1]}",
    f"--restarts={restarts}",
    "--grace=6",
    "--module=tests.support.faulty_main",
  ]
  flags = [f"--config={config}", f"--workdir={folder / 'run'}", *flags]
  return launch(folder, own, flags, FAULTS=str(folder))


def finish(call, code=0):
  """Runs a launcher to an exit code; returns its output."""
  ended = subprocess.run(**call, timeout=500)
  assert ended.returncode == code, ended.stdout
  return ended.stdout


def job(folder, faces, *flags, code=0, **settings):
  """Runs the tiny job; returns its output and its workdir; see `arguments`."""
  call = arguments(folder, faces, *flags, **settings)
  return finish(call, code), folder / "run"


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
  ours, theirs = (restore.load_state(w).params for w in (workdir, reference))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    ours,
    theirs,
  )
  for a, b in zip(rows(workdir), rows(reference), strict=True):
    assert (a["step"], a["split"]) == (b["step"], b["split"])
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
