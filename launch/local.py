"""Starts a job of several processes on this machine, and starts it again.

    python launch/local.py --processes=4 --devices_per_process=2 -- --config=configs/faces.py
    python launch/local.py --gpus -- --config=configs/faces.py

All words after `--` go to `python -m vae_jax.main` unchanged. With --gpus
there is one process for each GPU of the machine; otherwise each process
simulates --devices_per_process devices on the CPU, as a pod to try things on.
The output of process 0 is shown; that of each process is written to --logs.

A job whose process died, hung or was asked to stop is restarted, up to
--restarts times, and resumes from its last checkpoint. Wrong input (exit code
2), divergence (3) and a defect (1) end it for good. SIGTERM or Ctrl-C to this
program stops the job after a checkpoint; a second one stops it at once.
"""  # noqa: E501

import argparse
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import BinaryIO

# Exit codes after which a restart would end in the same way.
FINAL = (0, 1, 2, 3, 130)
# Exit codes of a process that ends because of another one: its own (a broken
# collective), and that of JAX's runtime (SIGABRT).
LOST = (76, 134)
# Seconds from a second signal to the end of all processes.
_LAST_SECONDS = 5.0


def parse(argv: list[str]) -> argparse.Namespace:
  """Returns the launcher's flags, and those of the job in `forwarded`."""
  parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    usage="%(prog)s [flags] -- FLAGS OF vae_jax.main",
  )
  parser.add_argument("--processes", type=int, default=2)
  parser.add_argument("--devices_per_process", type=int, default=1)
  parser.add_argument("--gpus", action="store_true", help="one process a GPU")
  parser.add_argument("--restarts", type=int, default=3, help="at most")
  parser.add_argument("--logs", default="runs/logs", help="folder")
  text = "seconds until the others are killed after one has ended"
  parser.add_argument("--grace", type=float, default=60.0, help=text)
  parser.add_argument("--module", default="vae_jax.main", help="to run")
  text = "print what would run"
  parser.add_argument("--dry_run", action="store_true", help=text)
  # argparse itself would take flags after `--` for positional arguments.
  cut = argv.index("--") if "--" in argv else len(argv)
  args = parser.parse_args(argv[:cut])
  args.forwarded = argv[cut + 1 :]
  if not args.forwarded:
    parser.error("nothing to run; put the job's flags after --")
  args.visible = _gpus(parser) if args.gpus else []
  args.processes = len(args.visible) or args.processes
  if args.processes < 1 or args.devices_per_process < 1:
    parser.error("--processes and --devices_per_process must be 1 or more")
  return args


def _gpus(parser: argparse.ArgumentParser) -> list[str]:
  """Returns $CUDA_VISIBLE_DEVICES, or all GPUs of the machine."""
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  if visible:
    return visible.split(",")
  program = shutil.which("nvidia-smi")
  if program is None:
    parser.error("--gpus needs nvidia-smi, which is not on this machine")
  listed = subprocess.run([program, "-L"], capture_output=True, text=True)
  lines = listed.stdout.splitlines()
  count = sum(line.startswith("GPU ") for line in lines)
  if not count:
    parser.error("nvidia-smi lists no GPU")
  return [str(i) for i in range(count)]


def command(
  args: argparse.Namespace, index: int, port: int
) -> tuple[dict[str, str], list[str]]:
  """Returns the environment variables and the command of one process."""
  if args.visible:
    settings = {"CUDA_VISIBLE_DEVICES": args.visible[index]}
  else:
    flag = "--xla_force_host_platform_device_count"
    others = os.environ.get("XLA_FLAGS", "").split()
    others = [word for word in others if not word.startswith(flag)]
    settings = {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": " ".join([*others, f"{flag}={args.devices_per_process}"]),
    }
  words = [sys.executable, "-u", "-m", args.module, *args.forwarded]
  if args.processes > 1:
    words += [
      f"--coordinator=127.0.0.1:{port}",
      f"--num_processes={args.processes}",
      f"--process_id={index}",
    ]
  return settings, words


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _die_with_parent() -> None:
  if sys.platform == "linux":
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Job:
  """The processes of one attempt."""

  def __init__(self, args: argparse.Namespace, attempt: int):
    """Starts them."""
    self._grace, self._logs = args.grace, pathlib.Path(args.logs)
    port = _free_port()
    self._logs.mkdir(parents=True, exist_ok=True)
    self.processes: list[subprocess.Popen[bytes]] = []
    for index in range(args.processes):
      settings, words = command(args, index, port)
      log = self.log(index).open("ab" if attempt else "wb")
      process = subprocess.Popen(
        words,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if index == 0 else log,
        stderr=subprocess.STDOUT,
        # Ctrl-C in a terminal reaches this program only, which forwards it.
        start_new_session=True,
        preexec_fn=_die_with_parent,
      )
      self.processes.append(process)
      if index:
        log.close()
        continue
      self._shown = threading.Thread(target=_show, args=(process, log))
      self._shown.start()

  def log(self, index: int) -> pathlib.Path:
    """Returns the log file of a process."""
    return self._logs / f"process-{index}.log"

  def send(self, number: int) -> None:
    """Sends a signal to all running processes."""
    for process in self.processes:
      if process.poll() is None:
        process.send_signal(number)

  def wait(self) -> int:
    """Returns the exit code of the job, after all processes have ended."""
    ended: list[int] = []
    deadline = None
    while len(ended) < len(self.processes):
      time.sleep(0.05)
      for index, process in enumerate(self.processes):
        if index not in ended and process.poll() is not None:
          ended.append(index)
          deadline = deadline or time.monotonic() + self._grace
      if deadline and time.monotonic() > deadline:
        # Frozen processes never notice that the others are gone.
        self.send(signal.SIGKILL)
    self._shown.join()
    # Shells report signal n as 128 + n.
    codes = [p.returncode for p in self.processes]
    codes = [c if c >= 0 else 128 - c for c in codes]
    if any(codes):
      self._explain(ended, codes)
    # The cause, rather than its effect on the other processes.
    causes = sorted(set(codes) - {0, *LOST}, key=lambda c: c not in FINAL)
    return causes[0] if causes else max(codes)

  def _explain(self, ended: list[int], codes: list[int]) -> None:
    """Prints who ended when, and the last words of all but process 0."""
    order = ", ".join(f"{index} ({codes[index]})" for index in ended)
    print(f"Processes (exit codes), as they ended: {order}.", file=sys.stderr)
    for index, code in enumerate(codes[1:], 1):
      lines = self.log(index).read_text(errors="replace").splitlines()
      # Killed processes have no last words.
      if 0 < code < 128 and lines:
        print(f"process {index} ({code}): {lines[-1]}", file=sys.stderr)


def _show(process: subprocess.Popen[bytes], log: BinaryIO) -> None:
  """Copies the output of process 0 to the terminal and to its log."""
  with log:
    while chunk := process.stdout.read1(1 << 16):
      log.write(chunk)
      log.flush()
      sys.stderr.buffer.write(chunk)
      sys.stderr.flush()


def run(args: argparse.Namespace) -> int:
  """Runs the job, with restarts; returns its exit code."""
  signals: list[int] = []
  jobs: list[Job] = []

  def forward(number: int, frame: object) -> None:
    del frame
    signals.append(number)
    if len(signals) > 1:
      # A process that hangs in a driver handles no other signal.
      threading.Timer(_LAST_SECONDS, send, [signal.SIGKILL]).start()
    send(signal.SIGTERM)

  def send(number: int) -> None:
    if jobs:
      jobs[-1].send(number)

  signal.signal(signal.SIGTERM, forward)
  signal.signal(signal.SIGINT, forward)
  while True:
    jobs.append(Job(args, attempt=len(jobs)))
    if signals:
      send(signal.SIGTERM)  # One arrived before they were started.
    code = jobs[-1].wait()
    if code in FINAL or signals or len(jobs) > args.restarts:
      break
    print(
      f"The job ended with code {code}; starting it again "
      f"({len(jobs)} of at most {args.restarts} times).",
      file=sys.stderr,
    )
  if code:
    print(f"The job ended with code {code}; see {args.logs}.", file=sys.stderr)
  return code


def main() -> None:
  """Reads the flags and runs the job."""
  args = parse(sys.argv[1:])
  if args.dry_run:
    for index in range(args.processes):
      settings, words = command(args, index, 8476)
      assigned = [f"{k}={shlex.quote(v)}" for k, v in settings.items()]
      print(" ".join([*assigned, shlex.join(words)]))
    return
  sys.exit(run(args))


if __name__ == "__main__":
  main()
