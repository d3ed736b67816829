"""`vae_jax.main` with the faults that $FAULTS/plan.json names.

The plan is a list with a fault, or null, for each start of the job: {"process":
1, "at": "save", "count": 2, "delay": 0.05, "do": "KILL"} kills process 1, 0.05
s after it began its second save. Faults that took place are appended to
$FAULTS/done.jsonl.
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import sys
import threading
import time

from vae_jax import main
from vae_jax.data import cache
from vae_jax.evaluate import bound
from vae_jax.runtime import distributed, job, watchdog
from vae_jax.training import checkpoint, setup, store

NOBODY = 65534
FOLDER = pathlib.Path(os.environ["FAULTS"])


def _process():
  words = [w for w in sys.argv if w.startswith("--process_id=")]
  return int(words[0].partition("=")[2]) if words else 0


def _fault():
  """Returns the fault of this start, if it is one of this process."""
  counter = FOLDER / f"starts-{_process()}"
  start = len(counter.read_bytes()) if counter.exists() else 0
  with counter.open("ab") as file:
    file.write(b".")
  plan = json.loads((FOLDER / "plan.json").read_text())
  fault = plan[start] if start < len(plan) else None
  if fault and fault["at"] == "cache" and _process() == 0:
    # The job must build it again.
    shutil.rmtree(FOLDER / "cache", ignore_errors=True)
  return fault if fault and fault["process"] == _process() else None


def _do(fault):
  with (FOLDER / "done.jsonl").open("a") as file:
    file.write(json.dumps(fault) + "\n")
  if fault["do"] == "HANG":
    time.sleep(3600)
  elif fault["do"] == "FULL":
    # As on a full disk, but of this process alone.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
  elif fault["do"] == "READ_ONLY":
    os.seteuid(NOBODY)
  else:
    os.kill(os.getpid(), getattr(signal, f"SIG{fault['do']}"))


def _at(fault, owner, name, applies=lambda *args: True):
  """Makes the nth call of a function do the fault."""
  real, calls = getattr(owner, name), []

  def run(*args, **kwargs):
    if applies(*args):
      calls.append(1)
      if len(calls) == fault.get("count", 1):
        if fault["do"] == "HANG":
          real(*args, **kwargs)
        if fault.get("delay"):
          threading.Timer(fault["delay"], _do, [fault]).start()
        else:
          _do(fault)
    return real(*args, **kwargs)

  setattr(owner, name, run)


def _prepare(fault):
  if fault["at"] == "clock":
    real = time.time
    time.time = lambda: real() + 4e8
    return
  lead = fault["process"] == 0
  # The others wait for images meanwhile.
  wait = distributed, "lead_first", lambda _, what: what == "decoding images"
  place = {
    "cache": (cache, "_write") if lead else wait,
    "compile": (setup, "compile_step"),
    "step": (watchdog, "progress", lambda doing: doing == watchdog.COMPUTING),
    "data": (watchdog, "progress", lambda doing: doing.startswith("fetching")),
    "save": (checkpoint.Checkpoints if lead else store.Store, "save"),
    "evaluate": (bound, "mean_terms"),
  }
  _at(fault, *place[fault["at"]])


if __name__ == "__main__":
  # Two processes report soon.
  job._REPORT_DELAY = 5.0
  planned = _fault()
  if planned:
    _prepare(planned)
  main._main()
