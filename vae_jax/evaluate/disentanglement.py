"""Disentanglement of codes against ground-truth factors, with its spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import threadpoolctl
from etils import epath
from jaxtyping import Float, Integer
from scipy import stats

from vae_jax import figures
from vae_jax.evaluate import disentanglement_metrics, fixed_factor_metrics
from vae_jax.runtime import storage

# Standard deviation below which a code is dead, in units of the prior N(0, I):
# where published configurations prune codes for the FactorVAE score.
DEAD = 0.05
# Examples that a factor needs beside its most frequent value, and their share:
# with fewer, it may be constant in a part.
_FEWEST = 10
_SMALLEST = 0.01
_NEEDED = (
  f"at least {_FEWEST} examples, and {_SMALLEST:.0%} of all, beside the most "
  "frequent value"
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
  number is enough: FactorVAE and modularity can rate rotated codes as high as
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
    # Solvers run side by side: were each of their matrix products to take all
    # cores too, they would wait for each other ten times as long.
    with threadpoolctl.threadpool_limits(1):
      row, *matrices = _evaluate(train, test, seed)
    rows.append(row)
    information.append(matrices[0])
    importance.append(matrices[1])
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
  """Scores codes and draws which code knows which factor.

  Writes `disentanglement_mi.png` (mutual information as a share of the
  factor's entropy) and `disentanglement_importance.png`.

  Args:
    codes: float[n d], posterior means.
    factor_values: int[n f], classes of the same examples.
    factor_names: f names.
    folder: where the pictures go, made if missing; None: none are drawn.
    seeds: of the evaluations.

  Returns:
    `scores`, ready for JSON, with the matrices as lists of rows, and
    "factors", their columns; "dropped_factors", which hardly vary in these
    examples; "num_examples" and "seeds".

  Raises:
    ValueError: as `scores`, or if names do not match, or no factor is left.
  """
  if len(factor_names) != factor_values.shape[1]:
    raise ValueError(
      f"factor_names has {len(factor_names)} names; allowed is one for each of "
      f"the {factor_values.shape[1]} columns of factor_values."
    )
  varies = _varies(factor_values)
  kept = np.flatnonzero(varies).tolist()
  if not kept:
    raise ValueError(
      f"factor_values has no factor that varies; allowed is {_NEEDED}."
    )
  values, names = factor_values[:, kept], [factor_names[k] for k in kept]
  result = scores(codes, values, seeds=seeds)
  shares = result["mutual_information"] / disentanglement_metrics.entropy(
    values
  )
  for file, matrix, title in (
    ("mi", shares, "mutual information / entropy of the factor"),
    ("importance", result["importance"], "importance in predicting the factor"),
  ):
    if folder is None:
      break
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
  dropped = [factor_names[k] for k in np.flatnonzero(~varies).tolist()]
  return {
    **result,
    "factors": names,
    "dropped_factors": dropped,
    "num_examples": len(codes),
    "seeds": list(seeds),
  }


def _evaluate(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  seed: int,
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
  """All metrics, the mutual information and the importance."""
  information = disentanglement_metrics.mutual_information(*train)
  importance, accuracy = disentanglement_metrics.importance(
    train, test, seed=seed
  )
  entropies = disentanglement_metrics.entropy(train[1])
  row = {
    "mig": disentanglement_metrics.mig(information, entropies),
    "dci_disentanglement": disentanglement_metrics.disentanglement(importance),
    "dci_completeness": disentanglement_metrics.completeness(importance),
    "dci_informativeness": float(accuracy.mean()),
    "sap": disentanglement_metrics.sap(
      disentanglement_metrics.separability(train, test)
    ),
    "modularity": disentanglement_metrics.modularity(information),
    "explicitness": disentanglement_metrics.explicitness(train, test),
    "factor_vae": fixed_factor_metrics.factor_vae(train, test, seed=seed),
    "beta_vae": fixed_factor_metrics.beta_vae(train, test, seed=seed),
  }
  return row, information, importance


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
  if not _varies(factors).all():
    raise ValueError(
      f"factors does not vary in column {_varies(factors).argmin()}; allowed "
      f"is {_NEEDED}."
    )


def _varies(factors):
  """Which factors vary enough to be told from a constant."""
  n = len(factors)
  most = [np.unique(v, return_counts=True)[1].max() for v in factors.T]
  return n - np.array(most) >= max(_FEWEST, _SMALLEST * n)
