"""The validations of a run, of which `metrics.jsonl` holds a row each."""

import math
from typing import Any

from vae_jax.runtime import storage
from vae_jax.training import writer

Scores = dict[int, float | None]  # by step


def score(row: dict[str, Any]) -> float | None:
  """Returns the number of a validation that ranks checkpoints, lower is
  better; None if it is not finite."""
  value = row.get("neg_elbo", row["loss"])
  return value if value is not None and math.isfinite(value) else None


def scores(workdir: storage.PathLike) -> Scores:
  """Returns the score of each validation in a workdir."""
  return {
    row["step"]: score(row)
    for row in writer.read_rows(workdir)
    if row["split"] == "validation"
  }
