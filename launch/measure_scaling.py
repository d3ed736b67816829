"""Measures the cost of dividing a step among devices and processes.

    python launch/measure_scaling.py -- --config=configs/mnist.py
    python launch/measure_scaling.py --layouts=1x1@1,1x2 -- --config=configs/faces.py

A layout is PROCESSESxDEVICES: processes with simulated devices, on all cores of
the machine, or PROCESSESxDEVICES@CORES on some of them. Each runs
`--mode=benchmark` through launch/local.py, in turns, so that other load on the
machine affects all of them.

The images per core and step are the same in every layout: --batch_size on all
cores, its share on fewer. Layouts on the same cores do the same work with the
same hardware, so that the ratio of their times per step is the cost of dividing
it; 1 is free. The ratio to fewer cores includes the cost of shared memory.
"""  # noqa: E501

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

_LOCAL = pathlib.Path(__file__).with_name("local.py")


@dataclasses.dataclass(frozen=True)
class Layout:
  """Division of a machine."""

  processes: int
  devices: int  # simulated by each process
  cores: int

  def __str__(self) -> str:
    return f"{self.processes}x{self.devices}@{self.cores}"


def read_layout(text: str, all_cores: int) -> Layout:
  """Returns the layout of a word such as 4x2 or 1x1@1."""
  match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:@([1-9]\d*))?", text)
  if not match:
    raise argparse.ArgumentTypeError(
      f"{text!r} is no layout; one is PROCESSESxDEVICES, such as 4x2, or 4x2@1"
    )
  processes, devices, cores = (
    int(n) if n else all_cores for n in match.groups()
  )
  if cores > all_cores:
    raise argparse.ArgumentTypeError(
      f"{text} needs {cores} cores, but there are {all_cores}"
    )
  return Layout(processes, devices, cores)


def parse(argv: list[str]) -> argparse.Namespace:
  """Returns this program's flags, and those of the job in `forwarded`."""
  cores = len(os.sched_getaffinity(0))

  def layouts(text: str) -> list[Layout]:
    return [read_layout(word, cores) for word in text.split(",")]

  parser = argparse.ArgumentParser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    usage="%(prog)s [flags] -- FLAGS OF vae_jax.main",
  )
  parser.add_argument(
    "--layouts",
    type=layouts,
    default="1x1,1x8,4x2",
    help="compared with the first",
  )
  parser.add_argument(
    "--batch_size", type=int, default=128, help="on all cores"
  )
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--seconds", type=float, default=15.0, help="of each run")
  parser.add_argument("--output", default="runs/scaling.json")
  # argparse itself would take flags after `--` for positional arguments.
  cut = argv.index("--") if "--" in argv else len(argv)
  args = parser.parse_args(argv[:cut])
  args.forwarded = argv[cut + 1 :]
  args.all_cores = cores
  if not args.forwarded:
    parser.error("nothing to run; put the job's flags after --")
  for layout in args.layouts:
    unit = layout.processes * layout.devices * cores
    if args.batch_size * layout.cores % unit:
      parser.error(
        f"--batch_size={args.batch_size} cannot be divided among the devices "
        f"of {layout} on {cores} cores; a multiple of {unit} can"
      )
  if args.rounds < 1:
    parser.error("--rounds must be 1 or more")
  return args


def command(args: argparse.Namespace, layout: Layout, folder: str) -> list[str]:
  """Returns the command of one run."""
  batch = args.batch_size * layout.cores // args.all_cores
  return [
    sys.executable,
    str(_LOCAL),
    f"--processes={layout.processes}",
    f"--devices_per_process={layout.devices}",
    "--restarts=0",
    f"--logs={folder}/logs",
    "--",
    *args.forwarded,
    "--mode=benchmark",
    f"--seconds={args.seconds}",
    f"--config.train.batch_size={batch}",
    f"--workdir={folder}",
  ]


def run(args: argparse.Namespace, layout: Layout) -> dict[str, object]:
  """Returns the results of the benchmark of one layout."""
  cores = sorted(os.sched_getaffinity(0))[: layout.cores]
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      command(args, layout, folder),
      # Inherited by all threads of the job.
      preexec_fn=lambda: os.sched_setaffinity(0, cores),
      capture_output=True,
      text=True,
    )
    if done.returncode:
      print(done.stderr[-3000:], file=sys.stderr)
      print(f"The run of {layout} failed.", file=sys.stderr)
      sys.exit(done.returncode)
    return json.loads((pathlib.Path(folder) / "benchmark.json").read_text())


def summarize(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
  """Returns statistics of each layout, in comparison with the first one.

  From the milliseconds per step of each round: median and minimum, the median
  of the ratios within a round, and the ratio of the minima.
  """
  first = next(iter(times.values()))
  return {
    name: {
      "median_ms": statistics.median(own),
      "min_ms": min(own),
      "median_ratio": statistics.median(
        a / b for a, b in zip(own, first, strict=True)
      ),
      "min_ratio": min(own) / min(first),
    }
    for name, own in times.items()
  }


def table(summary: dict[str, dict[str, float]]) -> str:
  """Returns the statistics as lines."""
  head = ("layout", "ms/step", "least", "ratio", "of the least")
  lines = ["".join(f"{word:>14}" for word in head)]
  for name, row in summary.items():
    cells = [f"{row[k]:.2f}" for k in ("median_ms", "min_ms")]
    cells += [f"{row[k]:.3f}" for k in ("median_ratio", "min_ratio")]
    lines.append("".join(f"{word:>14}" for word in (name, *cells)))
  return "\n".join(lines)


def main() -> None:
  """Measures, prints the table and writes the numbers."""
  args = parse(sys.argv[1:])
  times: dict[str, list[float]] = {str(layout): [] for layout in args.layouts}
  last: dict[str, object] = {}
  for number in range(args.rounds):
    for layout in args.layouts:
      last[str(layout)] = result = run(args, layout)
      times[str(layout)].append(result["ms_per_step"])
      print(
        f"round {number + 1} of {args.rounds}, {layout}: "
        f"{result['ms_per_step']:.2f} ms per step",
        file=sys.stderr,
      )
  summary = summarize(times)
  output = pathlib.Path(args.output)
  output.parent.mkdir(parents=True, exist_ok=True)
  content = {
    "command": args.forwarded,
    "batch_size": args.batch_size,
    "cores": args.all_cores,
    "ms_per_step": times,
    "summary": summary,
    "last_run": last,
  }
  output.write_text(json.dumps(content, indent=2) + "\n")
  print(table(summary))


if __name__ == "__main__":
  main()
