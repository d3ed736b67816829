"""Processes that do not belong together are refused."""

import shutil
import subprocess
import sys
import time

import pytest

from tests.support import jobs, programs


@pytest.mark.slow
def test_second_job_on_the_same_workdir_is_refused(tmp_path, faces_dir):
  plan = [{"process": 1, "at": "data", "count": 3, "do": "HANG"}]
  call = jobs.arguments(tmp_path, faces_dir, plan=plan, restarts=0)
  with subprocess.Popen(**call) as first:
    try:
      while not jobs.faults(tmp_path):
        assert first.poll() is None
        time.sleep(0.1)
      other, workdir = tmp_path / "other", f"--workdir={tmp_path / 'run'}"
      output, _ = jobs.job(other, faces_dir, workdir, code=2)
      for words in (output, jobs.log(other, 1)):
        assert "Another process is training in" in words
      assert first.poll() is None
    finally:
      first.kill()


def refuse(folder, faces, *flags):
  """Returns outputs of two processes, the second one with flags of its own,
  that refuse to run together."""
  call = jobs.arguments(folder, faces, layout=(2, 1))
  words = call["args"]
  command = [sys.executable, "-m", "vae_jax.main"]
  command += words[words.index("--") + 1 :]
  command += [f"--coordinator=127.0.0.1:{programs.free_port()}"]
  command += ["--num_processes=2"]
  started = [
    subprocess.Popen(**(call | {"args": [*command, f"--process_id={i}", *own]}))
    for i, own in enumerate(([], flags))
  ]
  outputs = [process.communicate(timeout=120)[0] for process in started]
  assert [p.returncode for p in started] == [2, 2], outputs
  return outputs


@pytest.mark.slow
def test_processes_with_another_config_are_refused(tmp_path, faces_dir):
  for output in refuse(tmp_path, faces_dir, "--config.seed=5"):
    assert "config.seed is 5 in process 1 (" in output
    assert ", 0 in process 0 (" in output
    assert "Traceback" not in output
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_with_other_data_are_refused(tmp_path, faces_dir):
  other = tmp_path / "tfds"
  shutil.copytree(faces_dir, other)
  record = next(other.rglob("*train*array_record*"))
  content = record.read_bytes()
  record.write_bytes(content[:500] + b"x" + content[501:])
  outputs = refuse(tmp_path, faces_dir, f"--config.data.dir={other}")
  assert "the training images' files is" in outputs[0]
  assert not (tmp_path / "run" / "checkpoints").exists()
