#!/usr/bin/env bash
# Trains on all workers of a Google Cloud TPU pod. From a fresh account:
#
#   export PROJECT=my-project ZONE=us-central2-b NAME=pod BUCKET=gs://my-bucket
#   export ACCELERATOR=v4-32 RUNTIME=tpu-ubuntu2204-base
#   bash launch/tpu_pod.sh init                 # log in; enable the API; make the bucket
#   bash launch/tpu_pod.sh data synthetic_faces # a prepared data set, to $BUCKET/tfds
#   bash launch/tpu_pod.sh create               # ask for the pod, and wait until it is there
#   bash launch/tpu_pod.sh setup                # this checkout and its packages, to all workers
#   bash launch/tpu_pod.sh run --config=configs/faces.py --workdir=$BUCKET/runs/faces --config.data.dir=$BUCKET/tfds
#   bash launch/tpu_pod.sh logs                 # of worker 0; WORKER=3 of another
#
# status prints whether each worker runs; stop saves and stops; delete ends the
# costs. keep, with the flags of run, does create, setup and run, and repeats
# them after each preemption, as long as it runs on your machine.
#
# With --dry_run each of them prints its commands instead. More settings: SPOT=1
# asks for spot capacity; EXTRAS=tpu,cloud are the extras of the package to
# install; DATA_DIR=~/tensorflow_datasets holds prepared data; MAX_RESTARTS=100
# is the number of times that a worker restarts the command by itself.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
poll=${POLL_SECONDS:-15}

fail() {
  echo "$1" >&2
  exit 2
}

need() {
  local setting
  for setting; do
    if [[ -z ${!setting:-} ]]; then
      case $setting in
        PROJECT) fail "Set PROJECT, the Google Cloud project, such as my-project." ;;
        ZONE) fail "Set ZONE, where the TPU is, such as us-central2-b." ;;
        NAME) fail "Set NAME, the name of the pod, such as pod." ;;
        BUCKET) fail "Set BUCKET, where data and runs are, such as gs://my-bucket." ;;
        ACCELERATOR) fail "Set ACCELERATOR, the type of TPU, such as v4-32." ;;
        RUNTIME) fail "Set RUNTIME, the TPU's software, such as tpu-ubuntu2204-base." ;;
      esac
    fi
  done
  if [[ $* == *BUCKET* && $BUCKET != gs://?* ]]; then
    fail "BUCKET is $BUCKET; it must be of the form gs://my-bucket."
  fi
}

# Words in shell syntax, quoted only where necessary.
quote() {
  local word tick="'" escaped="'\\''" space=""
  for word; do
    if [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      word=$tick${word//$tick/$escaped}$tick
    fi
    printf '%s%s' "$space" "$word"
    space=" "
  done
}

# Every command below writes shell text: --dry_run prints that text, and
# otherwise Bash runs it.

pod() { # pod KIND VERB WORDS: one of gcloud's commands on this pod.
  quote gcloud compute tpus "$1" "$2" "$NAME" "--zone=$ZONE" "--project=$PROJECT" "${@:3}"
}

remote() { # remote WORKER TEXT: shell text on one or all workers.
  pod tpu-vm ssh "--worker=$1" "--command=$2"
}

text_init() {
  need PROJECT ZONE BUCKET
  cat << END
gcloud auth login
$(quote gcloud services enable compute.googleapis.com tpu.googleapis.com storage.googleapis.com "--project=$PROJECT")
$(quote gcloud storage buckets describe "$BUCKET") > /dev/null 2>&1 ||
  $(quote gcloud storage buckets create "$BUCKET" "--project=$PROJECT" "--location=${ZONE%-*}" --uniform-bucket-level-access)
# The workers read and write it as the project's default service account.
number=\$($(quote gcloud projects describe "$PROJECT" "--format=value(projectNumber)"))
$(quote gcloud storage buckets add-iam-policy-binding "$BUCKET" --role=roles/storage.objectAdmin) --member="serviceAccount:\$number-compute@developer.gserviceaccount.com"
END
}

text_data() {
  need BUCKET
  [[ $# == 1 ]] || fail "data needs the name of one prepared data set, such as synthetic_faces."
  quote gcloud storage rsync "${DATA_DIR:-$HOME/tensorflow_datasets}/$1" "$BUCKET/tfds/$1" --recursive
}

text_create() {
  need PROJECT ZONE NAME ACCELERATOR RUNTIME
  cat << END
$(pod queued-resources create "--node-id=$NAME" "--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME" ${SPOT:+--spot})
while :; do
  state=\$($(pod queued-resources describe "--format=value(state.state)"))
  echo "The pod is \$state."
  case \$state in
    ACTIVE) break ;;
    FAILED | SUSPEND*) exit 1 ;;
  esac
  sleep $poll
done
END
}

text_setup() {
  need PROJECT ZONE NAME
  local archive=${TMPDIR:-/tmp}/vae_jax.tgz
  cat << END
COPYFILE_DISABLE=1 $(quote tar --exclude=./.venv --exclude=./runs --exclude=__pycache__ -czf "$archive" -C "$root" .)
$(quote gcloud compute tpus tpu-vm scp "$archive" "$NAME:vae_jax.tgz" "--zone=$ZONE" "--project=$PROJECT" --worker=all)
$(remote all "mkdir -p vae_jax && tar -xzf vae_jax.tgz -C vae_jax && python3 -m pip install --quiet uv && python3 -m uv venv --quiet --allow-existing --python=3.12 venv && python3 -m uv pip install --quiet --python=venv/bin/python --editable='./vae_jax[${EXTRAS:-tpu,cloud}]'")
END
}

text_run() {
  need PROJECT ZONE NAME
  [[ " $*" == *" --workdir=gs://"* ]] ||
    fail "run needs --workdir=gs://...: the disks of a pod go with it."
  # No process may hold the connection's output, or that would not close.
  remote all "cd vae_jax && { PATH=\$HOME/venv/bin:\$PATH MAX_RESTARTS=${MAX_RESTARTS:-100} nohup setsid bash launch/tpu_pod.sh worker $(quote "$@") >> ~/vae_jax.log 2>&1 < /dev/null & }"
}

# Text in single quotes is for the shell of a worker.
# shellcheck disable=SC2016
text_status() {
  need PROJECT ZONE NAME
  remote all 'echo "$HOSTNAME: $(if [ -e vae_jax.code ]; then echo "ended $(cat vae_jax.code)"; elif kill -0 "$(cat vae_jax.pid)"; then echo running; else echo never ran; fi 2> /dev/null)"'
}

text_logs() {
  need PROJECT ZONE NAME
  remote "${WORKER:-0}" 'tail -n 100 -F vae_jax.log'
}

# shellcheck disable=SC2016
text_stop() {
  need PROJECT ZONE NAME
  remote all 'kill -TERM "$(cat vae_jax.pid)" && while [ ! -e vae_jax.code ] && kill -0 "$(cat vae_jax.pid)" 2> /dev/null; do sleep 0.2; done; tail -n 3 vae_jax.log'
}

text_delete() {
  need PROJECT ZONE NAME
  pod queued-resources delete --force --quiet
}

text_keep() {
  need PROJECT ZONE NAME ACCELERATOR RUNTIME
  text_run "$@" > /dev/null
  cat << END
while :; do
  # The state of a pod that comes or goes is empty.
  state=\$($(pod queued-resources describe "--format=value(state.state)") || true)
  case \$state in
    "") $(quote bash "$0" create) || true ;;
    FAILED | SUSPENDED) $(quote bash "$0" delete) || true ;;
    ACTIVE)
      status=\$($(quote bash "$0" status) || true)
      codes=\$(echo "\$status" | sed -n 's/.*ended //p' | sort -n)
      final=\$(echo "\$codes" | grep -x '[123]' | tail -n 1 || true)
      case \$status in
        *never*) $(quote bash "$0" setup) && $(quote bash "$0" run "$@") || true ;;
        # Only one worker may know that a restart would not help.
        *running*) [ -z "\$final" ] || $(quote bash "$0" stop) || true ;;
        *ended*)
          echo "\$status"
          exit "\${final:-\$(echo "\$codes" | tail -n 1)}"
          ;;
      esac
      ;;
  esac
  sleep $poll
done
END
}

# On each worker: the command, with restarts until it is done. 74: no room on
# the disk; 75: saved; 76 and 134 (JAX): another process is gone; others from 129
# on: killed. Other codes would come back.
worker() {
  local restarts=0 code=75 pid="" stopped=""
  if kill -0 "$(cat ~/vae_jax.pid 2> /dev/null)" 2> /dev/null; then
    fail "The command runs already; stop it first."
  fi
  # Before others know whom to signal.
  trap 'stopped=1; kill -TERM "$pid" 2> /dev/null || true' TERM
  rm -f ~/vae_jax.code
  echo $$ > ~/vae_jax.pid
  while [[ ! $stopped ]]; do
    python -m vae_jax.main "$@" &
    pid=$!
    [[ ! $stopped ]] || kill -TERM "$pid" || true
    # A signal ends the waiting before the process.
    while :; do
      code=0
      wait "$pid" || code=$?
      kill -0 "$pid" 2> /dev/null || break
    done
    case $code in
      74 | 75 | 76 | 129 | 13[1-9] | 14?) ;;
      *) break ;;
    esac
    if [[ $stopped ]] || ((restarts >= MAX_RESTARTS)); then
      break
    fi
    restarts=$((restarts + 1))
    echo "Exit code $code: restart $restarts of at most $MAX_RESTARTS."
    sleep "$poll"
  done
  echo "Ended with exit code $code."
  echo "$code" > ~/vae_jax.code
  return "$code"
}

command=${1:-}
shift || true
dry_run=""
for word; do
  shift
  if [[ $word == --dry_run ]]; then dry_run=1; else set -- "$@" "$word"; fi
done
case $command in
  worker) worker "$@" ;;
  init | data | create | setup | run | status | logs | stop | delete | keep)
    text=$("text_$command" "$@")
    if [[ $dry_run ]]; then
      printf '%s\n' "$text"
    else
      bash -euo pipefail -c "$text"
    fi
    ;;
  *) fail "Name one of init, data, create, setup, run, status, logs, stop, delete, keep; $0 explains them." ;;
esac
