"""Formats runs as a table with comparability notes."""

import math
import shutil
from collections.abc import Sequence
from typing import Any

# Columns in the order of interest; others follow in the order of appearance.
_TEXT = ("name", "objective", "split")
_NUMBERS = (
  *("step", "neg_elbo", "nll", "nll_stderr", "importance_samples"),
  *("distortion", "rate", "bits_per_dim", "squared_error", "sigma"),
  *("active_units", "mutual_information", "marginal_kl"),
  *("disentanglement", "fidelity"),
)
# Runs that differ in one of these model different data or densities.
_COMPARABLE = (
  *("data.name", "data.crop", "data.resize", "data.grayscale"),
  *("data.image_shape", "data.binarization", "data.dequantization"),
  *("model.likelihood.args.bits", "model.likelihood.name"),
)

Row = dict[str, Any]


def table(rows: Sequence[Row], *, width: int | None = None) -> str:
  """Returns the rows of `compare` as aligned text with notes below.

  Columns beyond the width (None = of the terminal) continue in another block.
  """
  width = width or shutil.get_terminal_size((120, 24)).columns
  first, *others = [
    [c.ljust(size) if head in _TEXT else c.rjust(size) for c in (head, *cells)]
    for head, cells in _columns(rows).items()
    for size in [max(map(len, (head, *cells)))]
  ]
  blocks = [[first]]
  for column in others:
    wide = sum(len(c[0]) + 2 for c in (*blocks[-1], column)) > width
    if wide and len(blocks[-1]) > 1:
      blocks.append([first])
    blocks[-1].append(column)
  texts = []
  for block in blocks:
    lines = ["  ".join(cells).rstrip() for cells in zip(*block, strict=True)]
    lines.insert(1, "  ".join("-" * len(column[0]) for column in block))
    texts.append("\n".join(lines))
  return "\n\n".join([*texts, "\n".join(_notes(rows))])


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
  # The name of the part is left out, because it is wider than the number.
  return columns | {
    key.rpartition(".")[2]: _formatted([row.get(key) for row in rows])
    for key in numbers
  }


def _formatted(values: Sequence[int | float | None]) -> list[str]:
  """Returns the numbers of a column with the same number of decimals."""
  largest = max(abs(v) for v in values if v is not None)
  decimals = 4 - math.floor(math.log10(largest)) if largest else 4
  style = f".{min(max(decimals, 0), 4)}f" if largest < 1e7 else ".4g"
  if all(isinstance(v, int | None) for v in values):
    style = ",d"
  return ["-" if v is None else format(v, style) for v in values]


def _is_validation(row: Row) -> bool:
  return row["split"] is not None and not row["evaluated"]


def markdown(rows: Sequence[Row]) -> str:
  """Returns a comparison as a Markdown table with notes below."""
  columns = _columns(rows)
  marks = [":--" if head in _TEXT else "--:" for head in columns]
  lines = [list(columns), marks, *zip(*columns.values(), strict=True)]
  text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
  notes = "\n\n".join(note.replace("*", r"\*") for note in _notes(rows))
  return f"{text}\n\n{notes}\n"


def _notes(rows: Sequence[Row]) -> list[str]:
  """Returns the notes on units and comparability."""
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
  if stale := [
    f"{r['name']} (step {r['step']} of {r['trained_to']})"
    for r in rows
    if r.get("checkpoint") == "latest"
    and (r.get("trained_to") or 0) > r["step"]
  ]:
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
  """Returns the names that have each value, as "1: a, b; 2: c"."""
  groups: dict[str, list[str]] = {}
  for name, value in by_name.items():
    groups.setdefault(str(value), []).append(name)
  return "; ".join(
    f"{value}: {', '.join(names) if len(names) < 5 else f'{len(names)} runs'}"
    for value, names in groups.items()
  )
