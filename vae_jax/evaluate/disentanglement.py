"""Disentanglement of codes against ground-truth factors, with its spread."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy import stats

from vae_jax import figures
from vae_jax.evaluate import factor_scores, fixed_factors

# Standard deviation below which a code is dead, in units of the prior N(0, I):
# Kim & Mnih's pruning, in the number published code uses.
DEAD = 0.05
# A factor needs this many examples beside its most frequent value.
_FEWEST = 10
_METRICS = (
  "mig",
  "dci_disentanglement",
  "dci_completeness",
  "dci_informativeness",
  "sap",
  "modularity",
  "explicitness",
  "factor_vae",
  "beta_vae",
)


def scores(
  codes: Float[np.ndarray, "n d"],
  factors: Integer[np.ndarray, "n f"],
  *,
  seeds: Sequence[int] = (0, 1, 2),
  train_size: int = 10_000,
  test_size: int = 5_000,
) -> dict[str, Any]:
  """Scores codes by all metrics, once for each seed.

  Each seed draws its own train and test examples, trees and batches. No single
  number is enough: FactorVAE and modularity rate rotated codes as high as
  aligned ones, so read them beside MIG, DCI and the two matrices. Dead codes
  are taken as constant: alone they score 0, and chance in what is an accuracy
  (informativeness, beta_vae) or an area (explicitness: 0.5).

  Args:
    codes: float[n d], posterior means, in the units of the prior N(0, I).
    factors: int[n f], classes; each factor varies.
    seeds: of the evaluations.
    train_size: examples to fit to, at most two thirds of n.
    test_size: examples to test on, at most the rest.

  Returns:
    For each metric {"mean", "interval"}: the mean over seeds and the 95%
    interval of Student's t around it, None for one seed. It covers the chance
    in the evaluation of these codes, not another training of the model. Also
    "mutual_information" (nats) and "importance", float[d f], means over seeds,
    and "active_codes", the number of those that are not dead.

  Raises:
    ValueError: if the codes are not finite, rows do not match, a factor does
      not vary, or there is no seed.
  """
  _check(codes, factors, seeds)
  active = codes.std(axis=0) >= DEAD
  codes = np.where(active, codes, 0).astype(np.float64)
  n = len(codes)
  train_size = min(train_size, n * 2 // 3)
  test_size = min(test_size, n - train_size)
  rows, information, importance = [], [], []
  for seed in seeds:
    order = np.random.default_rng(seed).permutation(n)
    first, second = order[:train_size], order[train_size:][:test_size]
    train = codes[first], factors[first]
    test = codes[second], factors[second]
    information.append(factor_scores.mutual_information(*train))
    matrix, accuracy = factor_scores.importance(train, test, seed=seed)
    importance.append(matrix)
    row = (
      factor_scores.mig(information[-1], factor_scores.entropy(train[1])),
      factor_scores.disentanglement(matrix),
      factor_scores.completeness(matrix),
      float(accuracy.mean()),
      factor_scores.sap(factor_scores.separability(train, test)),
      factor_scores.modularity(information[-1]),
      factor_scores.explicitness(train, test),
      fixed_factors.factor_vae(train, test, seed=seed),
      fixed_factors.beta_vae(train, test, seed=seed),
    )
    rows.append(dict(zip(_METRICS, row, strict=True)))
  return {
    **{name: _summary([row[name] for row in rows]) for name in _METRICS},
    "mutual_information": np.mean(information, axis=0),
    "importance": np.mean(importance, axis=0),
    "active_codes": int(active.sum()),
  }


def evaluate_codes(
  codes: Float[np.ndarray, "n d"],
  factor_values: Integer[np.ndarray, "n f"],
  factor_names: Sequence[str],
  folder: str | pathlib.Path,
  *,
  seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
  """Scores codes and draws which code knows which factor.

  Writes `disentanglement_mi.png` (mutual information as a share of the
  factor's entropy) and `disentanglement_importance.png`.

  Args:
    codes: float[n d], posterior means.
    factor_values: int[n f], classes of the same examples.
    factor_names: f names.
    folder: where the pictures go; made if missing.
    seeds: of the evaluations.

  Returns:
    `scores`, ready for JSON, with the matrices as lists of rows, and
    "factors", their columns; "dropped_factors", which fewer than ten examples
    in these, or fewer than one in a hundred, tell from a constant; and
    "num_examples".

  Raises:
    ValueError: as `scores`, or if names do not match, or no factor is left.
  """
  if len(factor_names) != factor_values.shape[1]:
    raise ValueError(
      f"factor_names has {len(factor_names)} names; allowed is one for each of "
      f"the {factor_values.shape[1]} columns of factor_values."
    )
  n = len(factor_values)
  kept = [
    k
    for k, values in enumerate(factor_values.T)
    if n - np.unique(values, return_counts=True)[1].max()
    >= max(_FEWEST, n // 100)
  ]
  if not kept:
    raise ValueError(
      f"factor_values has no factor that varies within its {n} examples; "
      f"allowed is at least {_FEWEST} examples and 1% of all beside the most "
      "frequent value."
    )
  values, names = factor_values[:, kept], [factor_names[k] for k in kept]
  result = scores(codes, values, seeds=seeds)
  shares = result["mutual_information"] / factor_scores.entropy(values)
  for file, matrix, title in (
    ("mi", shares, "mutual information / entropy of the factor"),
    ("importance", result["importance"], "importance in predicting the factor"),
  ):
    figures.heat_map(
      matrix,
      pathlib.Path(folder) / f"disentanglement_{file}.png",
      row_names=[f"z{i + 1}" for i in range(len(matrix))],
      column_names=names,
      title=title,
      limit=1.0,
    )
  for name in ("mutual_information", "importance"):
    result[name] = result[name].tolist()
  dropped = [v for k, v in enumerate(factor_names) if k not in kept]
  return {
    **result,
    "factors": names,
    "dropped_factors": dropped,
    "num_examples": n,
    "seeds": list(seeds),
  }


def _summary(values: Sequence[float]) -> dict[str, Any]:
  """The mean, and Student's 95% interval of it."""
  mean = float(np.mean(values))
  if len(values) < 2:
    return {"mean": mean, "interval": None}
  error = np.std(values, ddof=1) / len(values) ** 0.5
  half = float(stats.t.ppf(0.975, len(values) - 1) * error)
  return {"mean": mean, "interval": [mean - half, mean + half]}


def _check(codes, factors, seeds):
  if len(codes) != len(factors):
    raise ValueError(
      f"codes has {len(codes)} rows and factors {len(factors)}; allowed is one "
      "of each for every example."
    )
  if not np.isfinite(codes).all():
    raise ValueError("codes holds nan or infinity; allowed are finite numbers.")
  if not len(seeds):
    raise ValueError("seeds is empty; allowed is at least one.")
  for k, values in enumerate(factors.T):
    if (values == values[0]).all():
      raise ValueError(
        f"factors has the one value {values[0]} in column {k}; allowed are "
        "factors that vary."
      )
