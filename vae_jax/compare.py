"""Runs side by side: one table, rate against distortion, learning curves."""

import json
import math
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax import figures, metrics
from vae_jax.config import ConfigError

# What a run is judged by, best first; without any, its last validation is.
_SPLITS = ("test", "validation", "train")
# Columns in the order of interest; others follow in the order of appearance.
_TEXT = ("name", "objective", "split")
_NUMBERS = (
  "step",
  "neg_elbo",
  "nll",
  "nll_stderr",
  "importance_samples",
  "distortion",
  "rate",
  "bits_per_dim",
  "squared_error",
  "sigma",
  "active_units",
  "mutual_information",
  "marginal_kl",
  "disentanglement",
  "fidelity",
)
# Of an evaluation, but no result of it.
_NO_RESULTS = (
  "batch_size",
  "epoch",
  "mutual_information_examples",
  "sample_seed",
  "sample_temperature",
  "seed",
)
# Runs that differ in one of these give a probability to different things.
_COMPARABLE = (
  "data.name",
  "data.crop",
  "data.resize",
  "data.grayscale",
  "data.image_shape",
  "data.binarization",
  "data.dequantization",
  "model.likelihood.args.bits",
  "model.likelihood.name",
)

Row = dict[str, Any]


def compare(
  workdirs: Sequence[str], folder: str | os.PathLike[str]
) -> list[Row]:
  """Compares runs by what they were evaluated on: test if they were, else
  validation, else train, else the last validation of their training.

  Writes `compare.json`, `compare.md` and, where there is something to draw,
  `rate_distortion.png` and `learning_curves.png`.

  Args:
    workdirs: folders of runs.
    folder: where to write.

  Returns:
    A row for each run: `name`, `workdir`, `objective`, `split`, `data_split`,
    `evaluated`, the numbers of its evaluation by name, and `settings`: those
    that are not the same in all the runs.

  Raises:
    ConfigError: a folder holds no run, or none is named.
  """
  paths = list(dict.fromkeys(pathlib.Path(w) for w in workdirs if w.strip()))
  if not paths:
    raise ConfigError(
      "--mode=compare needs folders of runs, as --workdirs=runs/a,runs/b."
    )
  configs = [_read_config(path) for path in paths]
  histories = [metrics.read_rows(path) for path in paths]
  names = _names(paths)
  differing = _differing(configs)
  rows = []
  for i, config in enumerate(configs):
    settings = {key: config[key] for key in differing if key in config}
    rows.append(
      {
        "name": names[i],
        "workdir": str(paths[i]),
        "objective": _objective(config["objective.name"], settings),
        **_result(paths[i], config, histories[i]),
        "settings": settings,
      }
    )
  folder = pathlib.Path(folder)
  metrics.write_json(folder / "compare.json", rows)
  metrics.write_bytes(folder / "compare.md", _markdown(rows).encode())
  _draw(rows, dict(zip(names, histories, strict=True)), folder)
  return rows


def table(rows: Sequence[Row], *, width: int | None = None) -> str:
  """Returns a comparison as aligned text, and what to know of it below.

  Args:
    rows: of `compare`.
    width: characters in a line, beyond which columns go on in another block;
      None = the terminal's.
  """
  width = width or shutil.get_terminal_size((120, 24)).columns
  padded = [
    [c.ljust(size) if head in _TEXT else c.rjust(size) for c in (head, *cells)]
    for head, cells in _columns(rows).items()
    for size in [max(map(len, (head, *cells)))]
  ]
  first, *others = padded
  blocks, block = [], [first]
  for column in others:
    if len(block) > 1 and sum(len(c[0]) + 2 for c in (*block, column)) > width:
      blocks.append(block)
      block = [first]
    block.append(column)
  blocks.append(block)
  texts = []
  for block in blocks:
    lines = ["  ".join(cells).rstrip() for cells in zip(*block, strict=True)]
    lines.insert(1, "  ".join("-" * len(column[0]) for column in block))
    texts.append("\n".join(lines))
  return "\n\n".join([*texts, "\n".join(_notes(rows))])


def _read_config(path: pathlib.Path) -> dict[str, Any]:
  """Returns the settings of a run by dotted path.

  Its own defaults stand for settings that are younger than the run.
  """
  file = path / "config.json"
  if not file.exists():
    raise ConfigError(
      f"There is no run in {path} (no config.json); --workdirs takes folders "
      "of runs, separated by commas."
    )
  try:
    saved = ConfigDict(json.loads(file.read_text()))
  except ValueError as error:
    raise ConfigError(f"{file} cannot be read ({error}).") from error
  flat = config_lib.flatten(config_lib.default()) | config_lib.flatten(saved)
  # As JSON has them, so that a default equals what was read.
  return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
  short = [path.absolute().name for path in paths]
  return [
    name if short.count(name) == 1 else str(path)
    for name, path in zip(short, paths, strict=True)
  ]


def _differing(configs: Sequence[dict[str, Any]]) -> list[str]:
  everything = sorted(set().union(*configs) - config_lib.FREE_FIELDS)
  return [
    key
    for key in everything
    if any(c.get(key) != configs[0].get(key) for c in configs)
  ]


def _objective(name: str, settings: dict[str, Any]) -> str:
  prefix = "objective.args."
  args = [
    f"{key.removeprefix(prefix)}="
    + (f"{value:g}" if isinstance(value, float) else str(value))
    for key, value in settings.items()
    if key.startswith(prefix)
  ]
  return " ".join([name, *args])


def _result(
  path: pathlib.Path, config: dict[str, Any], history: Sequence[Row]
) -> Row:
  for split in _SPLITS:
    file = path / "eval" / f"{split}.json"
    if file.exists():
      try:
        result = json.loads(file.read_text())
      except json.JSONDecodeError as error:
        raise ConfigError(
          f"{file} cannot be read ({error}); evaluate that run again."
        ) from error
      about = {
        "split": split,
        "data_split": result.get("data_split"),
        "checkpoint": result.get("checkpoint"),
        "features": (result.get("fidelity") or {}).get("features"),
        "trained_to": max((r["step"] for r in history), default=None),
      }
      return {**about, "evaluated": True, **_scalars(result)}
  last = [r for r in history if r.get("split") == "validation"][-1:]
  return {
    "split": "validation" if last else None,
    "data_split": config["data.validation_split"] if last else None,
    "evaluated": False,
    **(_scalars(last[0]) if last else {}),
  }


def _scalars(result: Row, prefix: str = "") -> dict[str, int | float]:
  found = {}
  for key, value in result.items():
    if isinstance(value, dict):
      found |= _scalars(value, f"{prefix}{key}.")
    elif isinstance(value, int | float) and not isinstance(value, bool):
      counts = key.startswith("num_") or key in _NO_RESULTS
      if not counts and math.isfinite(value):
        found[prefix + key] = value
  return found


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
  """Returns the cells of each column by its head."""
  present = dict.fromkeys(
    key
    for row in rows
    for key, value in row.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
    if key != "trained_to"
  )
  numbers = [
    key for part in _NUMBERS for key in present if key.partition(".")[0] == part
  ]
  numbers += [key for key in present if key not in numbers]
  columns = {key: [row[key] or "-" for row in rows] for key in _TEXT}
  for i, row in enumerate(rows):
    columns["split"][i] += "*" if _is_validation(row) else ""
  return columns | {
    key: _formatted([row.get(key) for row in rows]) for key in numbers
  }


def _formatted(values: Sequence[int | float | None]) -> list[str]:
  """Returns numbers of one column with as many decimals in each."""
  largest = max(abs(v) for v in values if v is not None)
  decimals = 4 - math.floor(math.log10(largest)) if largest else 4
  style = f".{min(max(decimals, 0), 4)}f" if largest < 1e7 else ".4g"
  if all(isinstance(v, int | None) for v in values):
    style = ",d"
  return ["-" if v is None else format(v, style) for v in values]


def _is_validation(row: Row) -> bool:
  return row["split"] is not None and not row["evaluated"]


def _markdown(rows: Sequence[Row]) -> str:
  columns = _columns(rows)
  lines = [
    list(columns),
    [":--" if head in _TEXT else "--:" for head in columns],
    *zip(*columns.values(), strict=True),
  ]
  text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
  notes = "\n\n".join(note.replace("*", r"\*") for note in _notes(rows))
  return f"{text}\n\n{notes}\n"


def _notes(rows: Sequence[Row]) -> list[str]:
  """Returns sentences on what the numbers are and are not."""
  notes = ["neg_elbo, nll, distortion, rate and loss: nats per image."]
  if names := [row["name"] for row in rows if _is_validation(row)]:
    notes.append(
      "* the last validation of training; --mode=evaluate has not been run "
      f"for {', '.join(names)}."
    )
  if names := [row["name"] for row in rows if row["split"] is None]:
    notes.append(f"No validation yet: {', '.join(names)}.")
  splits = _values(
    {r["name"]: r["data_split"] for r in rows if r["split"] is not None}
  )
  reasons = [f"split ({splits})"] if ";" in splits else []
  for key in ("checkpoint", "features"):
    named = {r["name"]: r[key] for r in rows if r.get(key)}
    if ";" in (values := _values(named)):
      reasons.append(f"{key} ({values})")
  stale = [
    f"{r['name']} (step {r['step']} of {r['trained_to']})"
    for r in rows
    if r.get("checkpoint") == "latest"
    and (r.get("trained_to") or 0) > r["step"]
  ]
  if stale:
    notes.append(f"Trained on since the evaluation: {', '.join(stale)}.")
  others = []
  for key in dict.fromkeys(key for row in rows for key in row["settings"]):
    values = _values({row["name"]: row["settings"].get(key) for row in rows})
    if key in _COMPARABLE:
      reasons.append(f"{key} ({values})")
    elif not key.startswith("objective."):
      others.append(f"{key} ({values})")
  if reasons:
    notes.append(f"Not comparable, for these differ: {', '.join(reasons)}.")
  if others:
    notes.append(f"Other settings that differ: {', '.join(others)}.")
  return notes


def _values(by_name: dict[str, Any]) -> str:
  """Returns as "1: a, b; 2: c" who has which value."""
  groups: dict[str, list[str]] = {}
  for name, value in by_name.items():
    groups.setdefault(str(value), []).append(name)
  return "; ".join(
    f"{value}: {', '.join(names) if len(names) < 5 else f'{len(names)} runs'}"
    for value, names in groups.items()
  )


def _draw(
  rows: Sequence[Row], histories: dict[str, list[Row]], folder: pathlib.Path
) -> None:
  points = {
    row["name"]: (float(row["rate"]), float(row["distortion"]))
    for row in rows
    if "rate" in row and "distortion" in row
  }
  validated = any(
    row.get("split") == "validation" for h in histories.values() for row in h
  )
  # A picture of an earlier comparison must not pass for one of this.
  for name in ("rate_distortion.png", "learning_curves.png"):
    (folder / name).unlink(missing_ok=True)
  if points:
    figures.rate_distortion(points, histories, folder / "rate_distortion.png")
  if validated:
    figures.learning_curves(histories, folder / "learning_curves.png")
