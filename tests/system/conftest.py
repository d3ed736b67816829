"""Jobs without a fault, which others are compared with."""

import pytest

from tests.support import jobs, once


@pytest.fixture(scope="session")
def undisturbed(faces_dir):
  """Returns a function that returns the workdir of a job without a fault."""

  def workdir(layout, steps=40):
    name = "{}x{}-{}".format(*layout, steps)
    settings = {"layout": layout, "steps": steps}
    made = once.folder(
      name, lambda folder: jobs.job(folder, faces_dir, **settings)
    )
    return made / "run"

  return workdir


@pytest.fixture(scope="session")
def alone(undisturbed):
  """Returns the workdir of one process with four devices."""
  return undisturbed((1, 4))


@pytest.fixture(scope="session")
def pod(undisturbed):
  """Returns the workdir of two processes with two devices each."""
  return undisturbed((2, 2))


@pytest.fixture
def run(tmp_path, faces_dir):
  """Returns a function that runs the tiny job in a folder of the test; see
  `jobs.job`."""

  def run(*flags, **settings):
    return jobs.job(tmp_path, faces_dir, *flags, **settings)

  return run
