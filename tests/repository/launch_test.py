"""The launcher of TPU pods, on a fake cloud."""

import json
import re
import shutil

import pytest

from tests.support import clusters as fakes

ROOT = fakes.ROOT
COMMANDS = ["init", "data", "create", "setup", "run", "status", "logs", "stop"]
COMMANDS += ["delete", "keep"]
WORDS = {"data": ["synthetic_faces"], "run": fakes.FLAGS, "keep": fakes.FLAGS}


def dry_run(pod, command):
  return pod.do(command, "--dry_run", *WORDS.get(command, [])).stdout


@pytest.mark.parametrize(
  "path", [fakes.POD, fakes.SLURM, ROOT / ".ci" / "run"], ids=str
)
def test_shellcheck_finds_nothing(path):
  assert fakes.lint(path.read_text()) == ""
  assert "SC2086" in fakes.lint("#!/bin/bash\necho $1\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_dry_run_prints_shell_and_runs_nothing(command, tmp_path):
  text = dry_run(fakes.Pod(tmp_path, ""), command)
  assert "gcloud" in text
  # Text in single quotes is for the shell of the worker.
  rules = "# shellcheck disable=SC1003,SC2016,SC2088\n"
  assert fakes.lint(rules + text) == ""
  assert not (tmp_path / "calls").exists()


def test_dry_run_can_be_pasted(tmp_path):
  pod = fakes.Pod(tmp_path, "0")
  for command in ("create", "setup", "run"):
    fakes.run("bash", "-c", dry_run(pod, command), **pod.environment)
  assert pod.wait("vae_jax.code") == ["0", "0"]
  words = fakes.words(tmp_path / "worker-1" / "words")
  assert words == ["-m", "vae_jax.main", *fakes.FLAGS]


@pytest.mark.parametrize(
  "plan, code, runs",
  [
    ("75,134,kill,0", "0", 4),
    # A restart would not help, or there were enough.
    *((f"{code},0", str(code), 1) for code in (1, 2, 3, 130)),
    ("76,76,76,76,76", "76", 4),
  ],
)
def test_worker_restarts_until_it_is_done(plan, code, runs, tmp_path):
  pod = fakes.Pod(tmp_path, plan)
  pod.start(MAX_RESTARTS="3")
  assert pod.wait("vae_jax.code") == [code, code]
  assert pod.runs() == [runs, runs]
  for i in range(2):
    words = fakes.words(tmp_path / f"worker-{i}" / "words")
    assert words == ["-m", "vae_jax.main", *fakes.FLAGS] * runs
  assert pod.do("status").stdout.count(f": ended {code}") == 2
  # The record of the run names the commit.
  sent, here = (
    fakes.run("git", "-C", folder, "rev-parse", "HEAD").stdout
    for folder in (tmp_path / "worker-0" / "vae_jax", ROOT)
  )
  assert sent == here


def test_stop_saves_and_a_second_run_is_refused(tmp_path):
  pod = fakes.Pod(tmp_path, "wait,0")
  pod.start()
  pod.wait("runs")
  assert pod.do("status").stdout.count(": running") == 2
  pod.do("run", *fakes.FLAGS)
  done = pod.do("stop")
  assert done.stdout.count("Ended with exit code 75.") == 2
  assert pod.wait("vae_jax.code") == ["75", "75"]
  assert pod.runs() == [1, 1]
  assert "runs already" in (tmp_path / "worker-0" / "vae_jax.log").read_text()


def test_stop_ends_a_worker_that_restarts(tmp_path):
  pod = fakes.Pod(tmp_path, "76," * 100)
  pod.start()
  pod.wait("runs")
  assert pod.do("stop").stdout.count("Ended with exit code") == 2
  # The signal arrived in the process, or in the pause after it.
  assert set(pod.wait("vae_jax.code")) <= {"76", "143"}
  assert max(pod.runs()) < 80


def test_keep_makes_a_new_pod_after_preemption(tmp_path):
  pod = fakes.Pod(tmp_path, "preempt")
  pod.do("keep", *fakes.FLAGS)
  made = [c.split()[1] for c in pod.calls() if c.startswith("queued-resources")]
  made = [verb for verb in made if verb != "describe"]
  assert made == ["create", "delete", "create"]
  assert pod.runs() == [1, 1]


def test_stop_waits_for_no_worker_that_died(tmp_path):
  pod = fakes.Pod(tmp_path, "")
  pod.do("create")
  sleeping = fakes.run("bash", "-c", "sleep 60 &> /dev/null & echo $!").stdout
  for i in range(2):
    (tmp_path / f"worker-{i}" / "vae_jax.pid").write_text(sleeping)
  pod.do("stop", code=None)
  assert not (tmp_path / "worker-0" / "vae_jax.code").exists()


@pytest.mark.parametrize("plan, code", [("3", 3), ("134," * 1000, 2)])
def test_keep_ends_with_the_code_of_the_run(plan, code, tmp_path):
  """Also where the other worker's restarts do not help."""
  pod = fakes.Pod(tmp_path, plan, PLAN_1=str(code))
  done = pod.do("keep", *fakes.FLAGS, code=code)
  assert f"ended {code}" in done.stdout
  assert pod.runs()[1] == 1


@pytest.mark.parametrize("spot", ["", "1"])
def test_spot_capacity_is_asked_for(spot, tmp_path):
  done = fakes.Pod(tmp_path, "").do("create", "--dry_run", SPOT=spot)
  assert ("--spot" in done.stdout) == bool(spot)


@pytest.mark.parametrize(
  "command, flags, environment, message",
  [
    ("create", [], {"ZONE": ""}, "Set ZONE"),
    ("create", [], {"ACCELERATOR": ""}, "Set ACCELERATOR"),
    ("init", [], {"BUCKET": "bucket"}, "BUCKET is bucket; it must be"),
    ("data", [], {}, "name of one prepared data set"),
    ("run", ["--config=a.py"], {}, "needs --workdir=gs://"),
    ("keep", ["--workdir=runs/a"], {}, "needs --workdir=gs://"),
    ("crate", [], {}, "Name one of init, data, create"),
    ("", [], {}, "Name one of init, data, create"),
  ],
)
def test_wrong_command_gets_one_sentence(
  command, flags, environment, message, tmp_path
):
  pod = fakes.Pod(tmp_path, "")
  pod.environment.update(environment)
  done = pod.do(command, *flags, code=2)
  assert message in done.stderr and len(done.stderr.splitlines()) == 1
  assert not (tmp_path / "calls").exists()


@pytest.mark.skipif(not shutil.which("gcloud"), reason="There is no gcloud.")
def test_gcloud_knows_the_commands(tmp_path):
  pod = fakes.Pod(tmp_path, "")
  text = "\n".join(dry_run(pod, c) for c in COMMANDS if c != "keep")
  text = text.replace("\\$", "$").replace("\n  gcloud", "\ngcloud")
  found = re.findall(r"^(?:.*\$\()?(gcloud .*?)(?:\)+| > .*)?$", text, re.M)
  assert len(found) > 10
  # Quoted text is shell of the workers, which that parser cannot read.
  lines = [re.sub(r"'--(\w+)=.*", r"--\1=true", line) for line in found]
  lines = [*dict.fromkeys(lines), "gcloud compute tpus tpu-vm list --bogus=1"]
  file = tmp_path / "commands.json"
  file.write_text(json.dumps([{"command_string": line} for line in lines]))
  done = fakes.run(
    *("gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"),
    code=None,
    CLOUDSDK_CONFIG=str(tmp_path),
    CLOUDSDK_CORE_DISABLE_USAGE_REPORTING="1",
  )
  results = json.loads(done.stdout)
  assert len(results) == len(lines), done.stderr
  wrong = {r["command_string"]: r["error_message"] for r in results}
  wrong = {line: text for line, text in wrong.items() if text}
  assert [*wrong] == lines[-1:], wrong


def test_commands_of_the_readme_can_be_printed(tmp_path):
  text = (ROOT / "launch" / "README.md").read_text()
  found = re.findall(r"^    (?:SPOT=1 )?(bash launch/.*)$", text, re.M)
  kinds = [line.split()[2] for line in found]
  assert kinds[:6] == ["init", "data", "create", "setup", "run", "logs"]
  (settings,) = re.findall(r"^    (export PROJECT.*)$", text, re.M)
  pod = fakes.Pod(tmp_path, "")
  for line in found:
    line = line.partition("  #")[0] + " --dry_run"
    done = fakes.run("bash", "-c", f"{settings}; {line}", **pod.environment)
    assert done.stdout
  assert not (tmp_path / "calls").exists()
