"""Jobs through faults at every place, at random moments."""

import numpy as np

from tests.support import jobs

PLACES = ("cache", "compile", "step", "save", "evaluate")
STEPS = 200


def plan_of(seed, processes, do, rounds):
  """Returns faults at each place; their order and moments are random.

  Of two processes each has its own; of more, whose starts cost more, process 0
  or another one, in turn.
  """
  random = np.random.RandomState(seed)
  plan = []
  for place in PLACES * rounds:
    both = (0, random.randint(1, processes))
    chosen = both if processes == 2 else (both[len(plan) % 2],)
    for process in chosen:
      count = random.randint(2, 6) if place == "step" else 1
      # A signal must arrive before the end of the place.
      delay = 0.0 if do == "TERM" else float(random.uniform(0, 0.2))
      fault = {"process": int(process), "at": place, "count": int(count)}
      plan.append({**fault, "delay": delay, "do": do})
  return [plan[i] for i in random.permutation(len(plan))]


def survive(plan, layout, folder, faces_dir):
  """Runs a job through all faults of a plan to its end; see `jobs.job`."""
  settings = {"layout": layout, "plan": plan, "restarts": len(plan) + 2}
  return jobs.job(folder, faces_dir, steps=STEPS, **settings)
