"""Disentanglement of codes by ground-truth factors, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import threadpoolctl
from etils import epath
from jaxtyping import Float, Integer
from scipy import stats

from vae_jax import figures
from vae_jax.evaluate import disentanglement_metrics as metrics
from vae_jax.evaluate import fixed_factor_metrics
from vae_jax.evaluate.disentanglement_metrics import Matrix, Test, Train
from vae_jax.runtime import storage

# Standard deviation below which a code is dead, in units of the prior N(0, I),
# as in published configurations of the FactorVAE score.
DEAD = 0.05
# A factor needs so many examples, and such a share, besides its most frequent
# value; with fewer it may be constant in the train or the test part.
_MIN_COUNT = 10
_MIN_SHARE = 0.01
_REQUIRED = (
  f"at least {_MIN_COUNT} examples, and {_MIN_SHARE:.0%} of all, besides the "
  "most frequent value"
)


def scores(
  codes: Float[np.ndarray, "n d"],
  factors: Integer[np.ndarray, "n f"],
  *,
  seeds: Sequence[int] = (0, 1, 2),
  train_size: int = 10_000,
  test_size: int = 5_000,
) -> dict[str, Any]:
  """Computes all metrics, once for each seed.

  Each seed draws its own train and test examples, trees and batches. FactorVAE
  and modularity can be as high for rotated codes as for aligned ones; compare
  them with MIG, DCI and the two matrices. Dead codes are replaced by constants;
  if all are dead, scores are 0, or chance for accuracies (informativeness,
  beta_vae) and areas (explicitness: 0.5).

  Args:
    codes: posterior means, in units of the prior N(0, I).
    factors: classes; each factor varies.
    train_size: number of training examples, at most two thirds of n.
    test_size: number of test examples, at most the rest.

  Returns:
    For each metric {"mean", "interval"}: the mean over seeds and its 95%
    interval by Student's t, None for one seed. The interval covers the chance
    in the evaluation of these codes, not in the training of the model. Also
    "mutual_information" (nats) and "importance", float[d f], means over seeds,
    and "active_codes", the number of codes that are not dead.

  Raises:
    ValueError: codes are not finite, rows do not match, a factor does not vary,
      or there is no seed.
  """
  if len(codes) != len(factors):
    raise ValueError(
      f"codes has {len(codes)} rows and factors {len(factors)}; allowed is one "
      "of each for every example."
    )
  if not np.isfinite(codes).all():
    raise ValueError("codes holds nan or infinity; allowed are finite numbers.")
  if not len(seeds):
    raise ValueError("seeds is empty; allowed is at least one.")
  if not _varies(factors).all():
    raise ValueError(
      f"factors does not vary in column {_varies(factors).argmin()}; allowed "
      f"is {_REQUIRED}."
    )
  active = codes.std(axis=0) >= DEAD
  codes = np.where(active, codes, 0).astype(np.float64)
  n = len(codes)
  train_size = min(train_size, n * 2 // 3)
  test_size = min(test_size, n - train_size)
  results = []
  for seed in seeds:
    order = np.random.default_rng(seed).permutation(n)
    first, second = order[:train_size], order[train_size:][:test_size]
    train = codes[first], factors[first]
    test = codes[second], factors[second]
    # One thread per matrix product, because the solvers run in parallel and
    # would otherwise take ten times as long.
    with threadpoolctl.threadpool_limits(1):
      results.append(_evaluate(train, test, seed))
  rows, information, importance = zip(*results, strict=True)
  return {
    **{name: _summary([row[name] for row in rows]) for name in rows[0]},
    "mutual_information": np.mean(information, axis=0),
    "importance": np.mean(importance, axis=0),
    "active_codes": int(active.sum()),
  }


def evaluate_codes(
  codes: Float[np.ndarray, "n d"],
  factor_values: Integer[np.ndarray, "n f"],
  factor_names: Sequence[str],
  folder: epath.PathLike | None,
  *,
  seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
  """Computes all metrics and draws the matrices of codes and factors.

  Writes `disentanglement_mi.png` (mutual information as a share of the
  factor's entropy) and `disentanglement_importance.png`.

  Args:
    codes, factor_values, seeds: as `scores`, but factors may be constant.
    factor_names: one per column of `factor_values`.
    folder: of the pictures, created if missing; None = no pictures.

  Returns:
    `scores` as JSON-able values, with the matrices as lists of rows, and
    "factors", the names of their columns; "dropped_factors", which hardly vary
    in these examples; "num_examples" and "seeds".

  Raises:
    ValueError: as `scores`, or names do not match, or no factor varies.
  """
  if len(factor_names) != factor_values.shape[1]:
    raise ValueError(
      f"factor_names has {len(factor_names)} names; allowed is one for each of "
      f"the {factor_values.shape[1]} columns of factor_values."
    )
  varies = _varies(factor_values)
  if not varies.any():
    raise ValueError(
      f"factor_values has no factor that varies; allowed is {_REQUIRED}."
    )
  values = factor_values[:, varies]
  names = np.array(factor_names)[varies].tolist()
  result = scores(codes, values, seeds=seeds)
  shares = result["mutual_information"] / metrics.entropy(values)
  pictures = (
    ("mi", shares, "mutual information / entropy of the factor"),
    ("importance", result["importance"], "importance in predicting the factor"),
  )
  for file, matrix, title in pictures if folder is not None else ():
    figures.heat_map(
      matrix,
      storage.path(folder) / f"disentanglement_{file}.png",
      row_names=[f"z[{i}]" for i in range(len(matrix))],
      column_names=names,
      title=title,
      limit=1.0,
    )
  for name in ("mutual_information", "importance"):
    result[name] = result[name].tolist()
  return {
    **result,
    "factors": names,
    "dropped_factors": np.array(factor_names)[~varies].tolist(),
    "num_examples": len(codes),
    "seeds": list(seeds),
  }


def _evaluate(
  train: Train, test: Test, seed: int
) -> tuple[dict[str, float], Matrix, Matrix]:
  """Returns all metrics, the mutual information and the importance."""
  information = metrics.mutual_information(*train)
  importance, accuracy = metrics.importance(train, test, seed=seed)
  entropies = metrics.entropy(train[1])
  row = {
    "mig": metrics.mig(information, entropies),
    "dci_disentanglement": metrics.disentanglement(importance),
    "dci_completeness": metrics.completeness(importance),
    "dci_informativeness": float(accuracy.mean()),
    "sap": metrics.sap(metrics.separability(train, test)),
    "modularity": metrics.modularity(information),
    "explicitness": metrics.explicitness(train, test),
    "factor_vae": fixed_factor_metrics.factor_vae(train, test, seed=seed),
    "beta_vae": fixed_factor_metrics.beta_vae(train, test, seed=seed),
  }
  return row, information, importance


def _summary(values: Sequence[float]) -> dict[str, Any]:
  """Returns the mean and its 95% interval by Student's t."""
  mean = float(np.mean(values))
  if len(values) < 2:
    return {"mean": mean, "interval": None}
  error = np.std(values, ddof=1) / len(values) ** 0.5
  half = float(stats.t.ppf(0.975, len(values) - 1) * error)
  return {"mean": mean, "interval": [mean - half, mean + half]}


def _varies(factors: np.ndarray) -> np.ndarray:
  """Returns which factors vary in enough examples."""
  n = len(factors)
  most = [np.unique(v, return_counts=True)[1].max() for v in factors.T]
  return n - np.array(most) >= max(_MIN_COUNT, _MIN_SHARE * n)
