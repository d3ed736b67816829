"""Jobs that are killed many times end in the bits of an undisturbed run."""

import collections
import os

import pytest

from tests.support import jobs, soak

# Faults at each place; see `soak.plan_of`.
ROUNDS = int(os.environ.get("ROUNDS", "1"))


@pytest.mark.slow
def test_undisturbed_jobs_end_in_the_same_numbers(undisturbed):
  layouts = ((2, 2), (4, 1))
  jobs.assert_close(*(undisturbed(layout, soak.STEPS) for layout in layouts))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(2, 2), (4, 1)])
def test_killed_at_random_moments_it_ends_in_the_same_bits(
  layout, undisturbed, tmp_path, faces_dir
):
  plan = soak.plan_of(layout[0], layout[0], "KILL", rounds=ROUNDS)
  _, workdir = soak.survive(plan, layout, tmp_path, faces_dir)
  kills = collections.Counter(
    (fault["at"], "lead" if fault["process"] == 0 else "worker")
    for fault in jobs.faults(tmp_path)
  )
  print(layout, dict(kills))
  # A process may end before its kill.
  assert sum(kills.values()) >= 0.8 * len(plan)
  jobs.assert_undisturbed(workdir, undisturbed(layout, soak.STEPS))
