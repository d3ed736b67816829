"""Jobs that are asked to stop many times end in the bits of an undisturbed
run."""

import pytest

from tests.support import jobs, soak
from vae_jax.training import writer as writer_lib


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(2, 2), (4, 1)])
def test_stopped_at_random_moments_it_ends_in_the_same_bits(
  layout, undisturbed, tmp_path, faces_dir
):
  plan = soak.plan_of(layout[0] + 1, layout[0], "TERM", rounds=1)
  output, workdir = soak.survive(plan, layout, tmp_path, faces_dir)
  assert len(jobs.faults(tmp_path)) >= 0.8 * len(plan)
  assert "Traceback" not in output
  # Each stop adds a row of the steps since the last one.
  steps = [r["steps"] for r in writer_lib.read_rows(workdir) if "steps" in r]
  assert sum(steps) == soak.STEPS
  jobs.assert_undisturbed(workdir, undisturbed(layout, soak.STEPS))
