"""A fake cloud and cluster of some lines of shell, to run the launchers on."""

import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.support.programs import ROOT, run

POD = ROOT / "launch" / "tpu_pod.sh"
SLURM = ROOT / "launch" / "slurm.sbatch"
FLAGS = [
  "--config=configs/faces.py",
  "--workdir=gs://bucket/runs/it's here",
  '--config.data.name=a "b"  $HOME `c` \\d *',
  "--config.optim.args.empty=",
]
SETTINGS = dict(PROJECT="my-project", ZONE="us-central2-b", NAME="pod")
SETTINGS |= dict(BUCKET="gs://my-bucket", ACCELERATOR="v4-32")
SETTINGS |= dict(RUNTIME="tpu-ubuntu2204-base", POLL_SECONDS="0.05")

# The `python` of these machines appends its arguments to a file, and ends with
# the codes in PLAN, or in PLAN_1 on worker 1, one for each run.
PYTHON = """#!/usr/bin/env bash
printf '%s\\0' "$@" >> "$HOME/words"
# Before a test knows that it runs.
if [[ $PLAN == wait* ]]; then trap 'exit 75' TERM; fi
echo run >> "$HOME/runs"
if [[ $HOME == *-1 ]]; then PLAN=${PLAN_1:-$PLAN}; fi
code=$(echo "$PLAN" | cut -d, -f"$(wc -l < "$HOME/runs")")
case $code in
  kill) kill -9 $$ ;;
  wait) for _ in {1..600}; do sleep 0.05; done ;;
  preempt)
    if [ -e "$CLOUD/preempted" ]; then exit 0; fi
    touch "$CLOUD/preempted"
    echo SUSPENDED > "$CLOUD/state"
    sleep 60
    ;;
  *) exit "$code" ;;
esac
"""
# A pod with two workers, whose disks are folders that are deleted with it.
GCLOUD = """#!/usr/bin/env bash
echo "$3 $4" >> "$CLOUD/calls"
which=all
for word; do
  case $word in
    --command=*) text=${word#*=} ;;
    --worker=*) which=${word#*=} ;;
  esac
done
case "$3 $4" in
  "queued-resources create")
    [ ! -e "$CLOUD/state" ] || exit 1
    mkdir "$CLOUD/worker-0" "$CLOUD/worker-1"
    echo ACTIVE > "$CLOUD/state"
    ;;
  "queued-resources describe") cat "$CLOUD/state" ;;
  "queued-resources delete")
    for pid in "$CLOUD"/worker-*/vae_jax.pid; do
      kill -9 -- "-$(cat "$pid")"
    done
    rm -r "$CLOUD/state" "$CLOUD"/worker-*
    ;;
  "tpu-vm scp")
    for home in "$CLOUD"/worker-*; do cp "$5" "$home/vae_jax.tgz"; done
    ;;
  "tpu-vm ssh")
    for home in "$CLOUD"/worker-*; do
      [[ $which = all || $home = *-$which ]] || continue
      (cd "$home" && HOME=$home bash -c "$text")
    done
    ;;
esac
"""
PYTHON3 = """#!/usr/bin/env bash
case "$*" in
  "-m pip install --quiet uv") ;;
  "-m uv venv"*) mkdir -p venv/bin && cp "$CLOUD/python" venv/bin/python ;;
  "-m uv pip install"*) [ -e vae_jax/setup.py ] ;;
  *) exit 1 ;;
esac
"""


def executable(path, text):
  path.parent.mkdir(exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def words(path):
  return path.read_text().split("\0")[:-1]


class Pod:
  def __init__(self, folder, plan, **environment):
    self.folder = folder
    self.environment = {
      **SETTINGS,
      "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
      "TMPDIR": str(folder),
      "CLOUD": str(folder),
      "PLAN": plan,
      **environment,
    }
    executable(folder / "bin" / "gcloud", GCLOUD)
    executable(folder / "bin" / "python3", PYTHON3)
    executable(folder / "python", PYTHON)

  def do(self, command, *flags, **environment):
    return run("bash", POD, command, *flags, **self.environment | environment)

  def start(self, **environment):
    for command in (["create"], ["setup"], ["run", *FLAGS]):
      self.do(*command, **environment)

  def wait(self, name):
    deadline = time.monotonic() + 30
    paths = [self.folder / f"worker-{i}" / name for i in range(2)]
    while not all(p.exists() and p.read_text() for p in paths):
      assert time.monotonic() < deadline, self.do("status").stdout
      time.sleep(0.02)
    return [p.read_text().strip() for p in paths]

  def runs(self):
    return [len(text.splitlines()) for text in self.wait("runs")]

  def calls(self):
    return (self.folder / "calls").read_text().splitlines()


def lint(text):
  """Returns the findings of shellcheck, of this or of any environment."""
  folder = pathlib.Path(sys.executable).parent
  tool = shutil.which("shellcheck", path=f"{folder}:{os.environ['PATH']}")
  return subprocess.run(
    [tool, "--shell=bash", "-"], input=text, capture_output=True, text=True
  ).stdout
