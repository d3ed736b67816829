"""How codes relate to ground-truth factors: information and prediction.

Codes are float[n d], one row an example, one column a latent dimension, as the
posterior mean; factors are int[n f], one column a factor, with classes as
values. Matrices are [d f], a row a code. Train and test are other examples of
the same data.
"""

import os
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from sklearn import ensemble, linear_model, metrics, preprocessing, svm

_TREES = 10
# Smaller leaves than a 250th of the examples fit noise, to which splits then
# give importance.
_LEAVES = 250


def mutual_information(
  codes: Float[np.ndarray, "n d"],
  factors: Integer[np.ndarray, "n f"],
  *,
  bins: int = 20,
) -> Float[np.ndarray, "d f"]:
  """Mutual information of each code with each factor, in nats.

  I(z; v) = sum_{z,v} p(z, v) log(p(z, v) / (p(z) p(v))) of the empirical
  distribution, the code being the one of `bins` equally wide bins between its
  smallest and its largest value. The estimate is biased upwards, by about
  (bins - 1) (classes - 1) / 2n where they are independent.

  Source: Chen et al. 2018, arXiv 1802.04942, section 4.1; the bins are those of
  Locatello et al. 2019, arXiv 1811.12359, appendix C.
  """
  low, high = codes.min(axis=0), codes.max(axis=0)
  scale = bins / np.where(high > low, high - low, 1)
  binned = np.minimum(((codes - low) * scale).astype(np.int64), bins - 1)
  information = np.empty((codes.shape[1], factors.shape[1]))
  for k, values in enumerate(_classes(factors)):
    count = values.max() + 1
    for i, code in enumerate(binned.T):
      table = np.bincount(code * count + values, minlength=bins * count)
      joint = table.reshape(bins, count) / len(codes)
      independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
      seen = joint > 0
      ratio = joint[seen] / independent[seen]
      information[i, k] = np.sum(joint[seen] * np.log(ratio))
  # Rounding takes independence to either side of zero, and ratios of such
  # numbers mean nothing.
  return np.where(information > 1e-12, information, 0)


def entropy(
  factors: Integer[np.ndarray, "n f"],
) -> Float[np.ndarray, " f"]:
  """Entropy of each factor, -sum_v p(v) log p(v), in nats."""
  shares = [np.bincount(v) / len(factors) for v in _classes(factors)]
  return np.array([-np.sum(p * np.log(p)) for p in shares])


def mig(
  information: Float[np.ndarray, "d f"], entropies: Float[np.ndarray, " f"]
) -> float:
  """Mutual information gap, in [0, 1].

  mean over factors v of (I(z_1; v) - I(z_2; v)) / H(v), where z_1 and z_2 are
  the codes that know most and second most about v.

  Source: Chen et al. 2018, arXiv 1802.04942, equation 6.
  """
  return float(np.mean(_gap(information) / entropies))


def modularity(information: Float[np.ndarray, "d f"]) -> float:
  """How far each code depends on one factor only, in [0, 1].

  mean over codes of 1 - sum_{v != v*} I(z; v)^2 / (I(z; v*)^2 (f - 1)), v*
  being the factor the code knows most about; 0 for a code that knows nothing.
  Codes of noise score about 0.7, for the bias of the information is nearly as
  large for all factors, and rotated codes can score as high as aligned ones:
  it does not stand alone.

  Source: Ridgeway & Mozer 2018, arXiv 1802.05312, section 3.
  """
  squares = np.square(information)
  most = squares.max(axis=1)
  others = squares.sum(axis=1) - most
  scale = most * max(information.shape[1] - 1, 1)
  scores = 1 - others / np.where(most > 0, scale, 1)
  return float(np.mean(np.where(most > 0, scores, 0)))


def importance(
  train: tuple[Float[np.ndarray, "n d"], Integer[np.ndarray, "n f"]],
  test: tuple[Float[np.ndarray, "m d"], Integer[np.ndarray, "m f"]],
  *,
  seed: int,
) -> tuple[Float[np.ndarray, "d f"], Float[np.ndarray, " f"]]:
  """Importance of each code in predicting each factor, by randomised trees.

  Boosted trees, as published scores use, take minutes where these take
  seconds; every split looks at all codes, or noise would gain importance from
  splits that were offered nothing else.

  Args:
    train: codes and factors to fit to.
    test: codes and factors to predict.
    seed: of the trees.

  Returns:
    The mean decrease of impurity by each code, columns summing to 1 (to 0
    where no code tells anything), and the share of test examples whose factor
    is predicted.
  """
  codes, factors = train

  def fit(k: int) -> tuple[np.ndarray, float]:
    forest = ensemble.ExtraTreesClassifier(
      _TREES,
      max_features=None,
      min_samples_leaf=max(len(codes) // _LEAVES, 1),
      random_state=seed,
    )
    forest.fit(codes, factors[:, k])
    return forest.feature_importances_, forest.score(test[0], test[1][:, k])

  fitted = _concurrently(fit, [(k,) for k in range(factors.shape[1])])
  columns, accuracy = zip(*fitted, strict=True)
  return np.stack(columns, axis=1), np.array(accuracy)


def disentanglement(matrix: Float[np.ndarray, "d f"]) -> float:
  """Whether a code serves one factor only: the D of DCI, in [0, 1].

  sum_i rho_i (1 - H_f(P_i)), where P_i is row i of the importance matrix
  divided by its sum, H_f the entropy to base f, and rho_i the share of row i
  in the sum of the matrix. 0 where nothing is important.

  Source: Eastwood & Williams 2018, openreview By-7dz-AZ, section 2.
  """
  totals = matrix.sum(axis=1)
  if not totals.sum():
    return 0.0
  shares = matrix / np.where(totals > 0, totals, 1)[:, None]
  # p log p is 0 at p = 0.
  entropies = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1)
  base = np.log(max(matrix.shape[1], 2))
  return float(np.sum(totals * (1 - entropies / base)) / totals.sum())


def completeness(matrix: Float[np.ndarray, "d f"]) -> float:
  """Whether a factor is served by one code only: the C of DCI, in [0, 1].

  `disentanglement` with rows and columns exchanged: factors weigh as much as
  they are predicted from.

  Source: Eastwood & Williams 2018, openreview By-7dz-AZ, section 2.
  """
  return disentanglement(matrix.T)


def separability(
  train: tuple[Float[np.ndarray, "n d"], Integer[np.ndarray, "n f"]],
  test: tuple[Float[np.ndarray, "m d"], Integer[np.ndarray, "m f"]],
) -> Float[np.ndarray, "d f"]:
  """Share of test examples whose factor a line finds from one code alone.

  The line is the linear support vector machine of published scores, with
  C = 0.01 and balanced classes. Its primal problem has the same solution as
  the dual one and is solved in half the time, without random numbers.
  """
  codes, factors = train

  def accuracy(i: int, k: int) -> float:
    line = svm.LinearSVC(C=0.01, class_weight="balanced", dual=False)
    line.fit(codes[:, i : i + 1], factors[:, k])
    return line.score(test[0][:, i : i + 1], test[1][:, k])

  shape = codes.shape[1], factors.shape[1]
  return np.array(_concurrently(accuracy, np.ndindex(shape))).reshape(shape)


def sap(matrix: Float[np.ndarray, "d f"]) -> float:
  """Separated attribute predictability, in [0, 1].

  mean over factors of the gap between the two largest accuracies in a column
  of `separability`. One line cannot part many classes, so that perfect codes
  of factors with tens of values score about 0.2; and as the line's penalty is
  not scaled with the codes, the score grows with their spread.

  Source: Kumar et al. 2018, arXiv 1711.00848, section 3.
  """
  return float(np.mean(_gap(matrix)))


def explicitness(
  train: tuple[Float[np.ndarray, "n d"], Integer[np.ndarray, "n f"]],
  test: tuple[Float[np.ndarray, "m d"], Integer[np.ndarray, "m f"]],
) -> float:
  """How well lines part each value of a factor from all others, in [0.5, 1].

  mean over factors of the mean over their values of the area under the ROC
  curve of a logistic regression, one value against the rest, on all codes,
  standardised: 0.5 is chance. Values without an example inside or outside, in
  either part, are left out. Of many ordered values the middle ones are parted
  by no line, so that perfect codes do not reach 1.

  Source: Ridgeway & Mozer 2018, arXiv 1802.05312, section 3.
  """
  scaler = preprocessing.StandardScaler().fit(train[0])
  x, x_test = scaler.transform(train[0]), scaler.transform(test[0])

  def area(k: int, value: int) -> float:
    hit, hit_test = train[1][:, k] == value, test[1][:, k] == value
    if hit.all() or hit_test.all() or not hit_test.any():
      return np.nan
    line = linear_model.LogisticRegression(max_iter=1000).fit(x, hit)
    return metrics.roc_auc_score(hit_test, line.decision_function(x_test))

  pairs = [
    (k, v) for k, c in enumerate(train[1].T) for v in np.unique(c).tolist()
  ]
  areas = np.array(_concurrently(area, pairs))
  factor = np.array([k for k, _ in pairs])
  told = [areas[(factor == k) & np.isfinite(areas)] for k in np.unique(factor)]
  return float(np.mean([area.mean() for area in told if area.size] or 0.5))


def _classes(factors: np.ndarray) -> list[np.ndarray]:
  """Each factor's values as 0, 1, ... without gaps."""
  return [np.unique(v, return_inverse=True)[1] for v in factors.T]


def _gap(matrix: np.ndarray) -> np.ndarray:
  """Largest minus second largest entry of each column."""
  ordered = np.sort(matrix, axis=0)
  return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0)


def _concurrently(
  function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> list[Any]:
  """Calls a function with each tuple of arguments, on all cores."""
  # Threads, because the solvers release Python's lock.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    return list(pool.map(lambda argument: function(*argument), arguments))
