"""Launchers of clusters, on a fake cluster or against their schema."""

import json
import os
import re
import shlex

import pytest
import yaml

from tests.support import clusters as fakes

ROOT = fakes.ROOT


def slurm(tmp_path, *flags, code=75, state="RUNNING", **environment):
  """Runs the batch script; returns it and its requests to scontrol."""
  folder = tmp_path / "bin"
  for name, text in (
    ("srun", f"printf '%s\\0' \"$@\" >> {tmp_path}/words\nexit {code}"),
    ("squeue", f"echo {state}"),
    ("scontrol", f'echo "$@" >> {tmp_path}/asked'),
  ):
    fakes.executable(folder / name, f"#!/bin/bash\n{text}\n")
  environment["PATH"] = f"{folder}:{os.environ['PATH']}"
  environment |= {"SLURM_JOB_ID": "17", "PAUSE_SECONDS": "0"}
  done = fakes.run("bash", fakes.SLURM, *flags, code=None, **environment)
  asked = tmp_path / "asked"
  return done, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize("code", [74, 75, 76, 129, 134, 137, 143])
def test_slurm_requeues_what_a_restart_helps(code, tmp_path):
  done, asked = slurm(tmp_path, *fakes.FLAGS, code=code)
  assert asked == "requeue 17\n"
  words = fakes.words(tmp_path / "words")
  assert words[:2] == ["--kill-on-bad-exit=0", "--cpus-per-task=8"]
  assert words[2:] == ["python", "-m", "vae_jax.main", *fakes.FLAGS]


@pytest.mark.parametrize(
  "code, state",
  [
    # What would come back, and cancelled or preempted jobs.
    *((code, "RUNNING") for code in (0, 1, 2, 3, 130)),
    *((75, state) for state in ("COMPLETING", "CANCELLED", "")),
  ],
)
def test_slurm_does_not_requeue_other_jobs(code, state, tmp_path):
  done, asked = slurm(tmp_path, code=code, state=state)
  assert (done.returncode, asked) == (code, "")


@pytest.mark.parametrize(
  "restarts, again", [("0", True), ("1", True), ("2", False)]
)
def test_slurm_requeues_a_bounded_number_of_times(restarts, again, tmp_path):
  done, asked = slurm(tmp_path, MAX_RESTARTS="2", SLURM_RESTART_COUNT=restarts)
  assert bool(asked) == again
  assert ("given up" in done.stderr) != again


def test_slurm_dry_run_prints_the_commands(tmp_path):
  done, asked = slurm(tmp_path, "--dry_run", *fakes.FLAGS)
  submitted, _, ran = done.stdout.splitlines()
  assert shlex.split(submitted) == ["sbatch", str(fakes.SLURM), *fakes.FLAGS]
  words = shlex.split(ran)
  assert words[0] == "srun"
  assert words[3:] == ["python", "-m", "vae_jax.main", *fakes.FLAGS]
  assert not asked and not (tmp_path / "words").exists()
  done = fakes.run("bash", fakes.SLURM, "--config=a", code=2, SLURM_JOB_ID="")
  assert "Submit it: sbatch" in done.stderr


SETTINGS = dict(PROCESSES="4", GPUS="8", CHIPS="4", TOPOLOGY="4x4")
SETTINGS |= dict(NAME="celeba", IMAGE="registry/vae_jax:1")
SETTINGS |= dict(TPU="tpu-v5-lite-podslice", FLAGS=json.dumps(fakes.FLAGS))


def job_sets():
  """Returns both documents after envsubst."""
  text = (ROOT / "launch" / "kubernetes.yaml").read_text()
  assert not re.findall(r"^[^#\n]*\$\w", text, re.M), "for envsubst"
  text = re.sub(r"\$\{(\w+)\}", lambda found: SETTINGS[found[1]], text)
  return list(yaml.safe_load_all(text))


def unknown(given, known, path=""):
  """Yields the paths that a schema has lost or changed in a document."""
  if isinstance(given, dict):
    for key, value in given.items():
      yield from unknown(value, (known or {}).get(key), f"{path}.{key}")
  elif isinstance(given, list) and known:
    for i, (a, b) in enumerate(zip(given, known, strict=True)):
      yield from unknown(a, b, f"{path}[{i}]")
  elif given != known:
    yield path


def test_job_sets_have_known_fields_of_the_right_types():
  from kubeflow_trainer_api import models

  def read(document):
    known = models.JobsetV1alpha2JobSet.from_dict(document).to_dict()
    return list(unknown(document, known))

  documents = job_sets()
  labels = [document["metadata"]["labels"] for document in documents]
  assert [label["accelerator"] for label in labels] == ["gpu", "tpu"]
  for document in documents:
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert document["kind"] == "JobSet"
    assert read(document) == []
  spec = documents[0]["spec"]["replicatedJobs"][0]["template"]["spec"]
  spec["backofLimit"] = 0
  spec["template"]["spec"]["containers"][0]["comand"] = []
  fields = [path.split(".")[-1] for path in read(documents[0])]
  assert fields == ["comand", "backofLimit"]
  spec["completions"] = "four"
  with pytest.raises(ValueError, match="completions"):
    read(documents[0])


def test_pods_get_coordinator_and_flags_and_end_for_good_with_some_codes():
  chips = [{"nvidia.com/gpu": 8}, {"google.com/tpu": 4}]
  for document, limits in zip(job_sets(), chips, strict=True):
    (workers,) = document["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    name = document["metadata"]["name"]
    # A pod's host name is JOBSET-WORKERS-JOB-POD, its domain that of the set.
    first = f"{name}-{workers['name']}-0-0.{name}"
    port = container["ports"][0]["containerPort"]
    flags = [f"--coordinator={first}:{port}", "--num_processes=4"]
    flags += ["--process_id=$(JOB_COMPLETION_INDEX)"]
    assert container["command"] == ["python", "-m", "vae_jax.main", *flags]
    assert container["args"] == fakes.FLAGS
    assert container["resources"]["limits"] == limits
    assert job["completions"] == job["parallelism"] == 4
    assert job["completionMode"] == "Indexed"
    # The set ends with codes that would come back.
    policy = document["spec"]["failurePolicy"]
    (rule,) = policy["rules"]
    assert rule["action"] == "FailJobSet"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
    assert policy["maxRestarts"] > 0
    (rule,) = job["podFailurePolicy"]["rules"]
    codes = {"operator": "In", "values": [1, 2, 3]}
    codes["containerName"] = container["name"]
    assert (rule["action"], rule["onExitCodes"]) == ("FailJob", codes)
    assert job["backoffLimit"] == 0
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_sky_passes_the_flags_to_every_machine(tmp_path):
  task = yaml.safe_load((ROOT / "launch" / "sky.yaml").read_text())
  assert fakes.lint(task["run"]) == fakes.lint(task["setup"]) == ""
  assert task["envs"]["FLAGS"] is None and task["resources"]["use_spot"]
  recovery = task["resources"]["job_recovery"]
  assert recovery["recover_on_exit_codes"] == [74, 75, 76, 134]
  assert recovery["max_restarts_on_errors"] == 0
  (tmp_path / "venv").mkdir()
  fakes.executable(tmp_path / "venv" / "bin" / "python", fakes.PYTHON)
  node = dict(NODE_IPS="10.0.0.1\n10.0.0.2", NUM_NODES="2", NODE_RANK="1")
  node = {f"SKYPILOT_{name}": value for name, value in node.items()}
  node |= dict(HOME=str(tmp_path), PLAN="76", FLAGS=shlex.join(fakes.FLAGS))
  fakes.run("bash", "-c", task["run"], code=76, **node)
  assert fakes.words(tmp_path / "words") == [
    *("-m", "vae_jax.main", "--coordinator=10.0.0.1:8476"),
    *("--num_processes=2", "--process_id=1"),
    *fakes.FLAGS,
  ]
