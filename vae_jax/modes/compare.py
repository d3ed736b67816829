"""Compares runs (--workdirs) in a table and pictures, to runs/compare/."""

import json
import math
import os
from collections.abc import Sequence
from typing import Any

from vae_jax import config as config_lib
from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.modes import compare_table
from vae_jax.runtime import storage
from vae_jax.training import writer as writer_lib

NEEDS = "nothing"
PREFIX = "compare"

# Evaluated splits in order of preference; the last resort is the last
# validation of the training.
_SPLITS = ("test", "validation", "train")
# Numbers of an evaluation that are no results.
_NO_RESULTS = (
  *("batch_size", "epoch", "mutual_information_examples", "seed"),
  *("sample_seed", "sample_temperature"),
)

Row = compare_table.Row


def run(config: None, workdir: str, *, workdirs: Sequence[str] = ()) -> str:
  """Compares the runs in folders; returns the table."""
  del config
  return compare_table.table(compare(workdirs, workdir))


def compare(
  workdirs: Sequence[str], folder: str | os.PathLike[str]
) -> list[Row]:
  """Compares runs by their evaluations.

  The split of a run is test if it was evaluated there, else validation, else
  train, else the last validation of its training.

  Writes `compare.json`, `compare.md` and, where there is something to draw,
  `rate_distortion.png` and `learning_curves.png`.

  Returns:
    A row for each run: `name`, `workdir`, `objective`, `split`, `data_split`,
    `evaluated`, the numbers of its evaluation by name, and `settings`, which
    holds the settings that differ among the runs.

  Raises:
    ConfigError: a folder holds no run, or there is no folder.
  """
  paths = list(dict.fromkeys(storage.path(w) for w in workdirs if w.strip()))
  if not paths:
    raise ConfigError(
      "--mode=compare needs folders of runs, as --workdirs=runs/a,runs/b."
    )
  configs = [_read_config(path) for path in paths]
  histories = [writer_lib.read_rows(path) for path in paths]
  short = [path.absolute().name for path in paths]
  names = [
    name if short.count(name) == 1 else str(path)
    for name, path in zip(short, paths, strict=True)
  ]
  differing = [
    key
    for key in sorted(set().union(*configs) - config_lib.FREE_FIELDS)
    if any(c.get(key) != configs[0].get(key) for c in configs)
  ]
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
  folder = storage.path(folder)
  storage.write_json(folder / "compare.json", rows)
  text = compare_table.markdown(rows)
  storage.write_bytes(folder / "compare.md", text.encode())
  _draw(rows, dict(zip(names, histories, strict=True)), folder)
  return rows


def _read_config(path: storage.Path) -> dict[str, Any]:
  """Returns the settings of a run by dotted path.

  Settings that are newer than the run have their defaults.
  """
  file = path / "config.json"
  if not file.exists():
    raise ConfigError(
      f"There is no run in {path} (no config.json); --workdirs takes folders "
      "of runs, separated by commas."
    )
  with storage.parsing(file, "leave that run out"):
    saved = config_lib.flatten(json.loads(file.read_text()))
  flat = config_lib.flatten(config_lib.default()) | saved
  # Lists, as in JSON, so that a default equals a value that was read.
  return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}


def _objective(name: str, settings: dict[str, Any]) -> str:
  """Returns "beta_vae beta=4": a loss and those arguments that differ."""
  words = [name]
  for key, value in settings.items():
    if key.startswith("objective.args."):
      shown = f"{value:g}" if isinstance(value, float) else value
      words.append(f"{key.removeprefix('objective.args.')}={shown}")
  return " ".join(words)


def _result(
  path: storage.Path, config: dict[str, Any], history: Sequence[Row]
) -> Row:
  for split in _SPLITS:
    file = path / "eval" / f"{split}.json"
    if file.exists():
      with storage.parsing(file, "evaluate that run again"):
        result = json.loads(file.read_text())
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
  scalars = {}
  for key, value in result.items():
    if isinstance(value, dict) and "interval" in value:
      value = value["mean"]
    if isinstance(value, dict):
      scalars |= _scalars(value, f"{prefix}{key}.")
    elif isinstance(value, int | float) and not isinstance(value, bool):
      counts = key.startswith("num_") or key in _NO_RESULTS
      if not counts and math.isfinite(value):
        scalars[prefix + key] = value
  return scalars


def _draw(
  rows: Sequence[Row], histories: dict[str, list[Row]], folder: storage.Path
) -> None:
  points = {
    row["name"]: (float(row["rate"]), float(row["distortion"]))
    for row in rows
    if "rate" in row and "distortion" in row
  }
  validated = any(
    row.get("split") == "validation" for h in histories.values() for row in h
  )
  # Pictures of an earlier comparison would pass for pictures of this one.
  for name in ("rate_distortion.png", "learning_curves.png"):
    (folder / name).unlink(missing_ok=True)
  if points:
    figures.rate_distortion(points, histories, folder / "rate_distortion.png")
  if validated:
    figures.learning_curves(histories, folder / "learning_curves.png")
