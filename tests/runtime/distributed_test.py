"""Exchange among processes; real ones are in job_test.py."""

import numpy as np

from vae_jax import config as config_lib
from vae_jax.runtime import distributed


def test_one_process_exchanges_with_itself():
  assert distributed.from_lead("x", 5) == 5
  assert distributed.gather("x", [1]) == [[1]]
  assert distributed.lead_first(lambda: 6, "y") == 6
  distributed.barrier("z")
  distributed.agree("w", {"a": 1})
  array = np.float32(-0.0)
  assert distributed.broadcast(array) is array
  assert [p.index for p in distributed.processes()] == [0]
  assert distributed.processes_here() == 1


def test_differences_name_fact_and_process():
  facts = [{"seed": 0, "same": [1, 2]}, {"seed": 7, "same": [1, 2]}]
  facts += [{"same": 3}]
  assert distributed.differences(facts, ["a", "b", "c"]) == [
    "seed is 7 in b, 0 in a",
    "same is 3 in c, [1, 2] in a",
    "seed is None in c, 0 in a",
  ]


def test_only_settings_of_one_machine_may_differ():
  facts = distributed.config_facts(config_lib.default())
  assert "config.seed" in facts and "config.train.steps_per_call" in facts
  assert "config.data.cache_dir" not in facts
  assert set(config_lib.flatten(config_lib.default())) - {
    path.removeprefix("config.") for path in facts
  } == set(config_lib.MACHINE_FIELDS)
