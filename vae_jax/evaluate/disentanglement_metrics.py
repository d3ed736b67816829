"""Disentanglement metrics by mutual information and by prediction.

Codes are float[n d], posterior means with a row per example and a column per
latent dimension; factors are int[n f], classes with a column per factor.
Matrices are [d f]. Train and test are different examples of the same data.
"""

import os
from collections.abc import Callable, Iterable
from concurrent import futures
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from sklearn import ensemble, linear_model, metrics, preprocessing, svm

Train = tuple[Float[np.ndarray, "n d"], Integer[np.ndarray, "n f"]]
Test = tuple[Float[np.ndarray, "m d"], Integer[np.ndarray, "m f"]]
Matrix = Float[np.ndarray, "d f"]

_TREES = 10
# Leaves have at least a 250th of the examples, because smaller ones fit noise
# and so increase its importance.
_LEAVES = 250


def mutual_information(
  codes: Float[np.ndarray, "n d"],
  factors: Integer[np.ndarray, "n f"],
  *,
  bins: int = 20,
) -> Matrix:
  """Returns the mutual information of each code with each factor, nats.

  I(z; v) = sum_{z,v} p(z, v) log(p(z, v) / (p(z) p(v))) of the empirical
  distribution, where a code is replaced by the index of one of `bins` equally
  wide bins between its smallest and largest value. The estimate is too high, by
  about (bins - 1) (classes - 1) / 2n for independent code and factor.

  References:
    Chen et al. 2018, arXiv 1802.04942, section 4.1; the bins are
    those of Locatello et al. 2019, arXiv 1811.12359, appendix C.
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
  # Rounded to 0, because ratios of rounding errors have no meaning.
  return np.where(information > 1e-12, information, 0)


def entropy(factors: Integer[np.ndarray, "n f"]) -> Float[np.ndarray, " f"]:
  """Returns the entropy of each factor, -sum_v p(v) log p(v), nats."""
  shares = [np.bincount(v) / len(factors) for v in _classes(factors)]
  return np.array([-np.sum(p * np.log(p)) for p in shares])


def mig(information: Matrix, entropies: Float[np.ndarray, " f"]) -> float:
  """Returns the mutual information gap, in [0, 1].

  It is the mean over factors v of (I(z_1; v) - I(z_2; v)) / H(v), where z_1 and
  z_2 are the codes with most and second most information about v.

  References:
    Chen et al. 2018, arXiv 1802.04942, equation 6.
  """
  return float(np.mean(_gap(information) / entropies))


def modularity(information: Matrix) -> float:
  """Returns the modularity, in [0, 1]: whether codes depend on one factor.

  It is the mean over codes of 1 - sum_{v != v*} I(z; v)^2 / ((f - 1) I*^2) with
  I* = I(z; v*) = max_v I(z; v), or 0 for a code without information. Codes of
  noise score about 0.7, because the bias of the information is similar for all
  factors. Rotated codes can score as high as aligned ones.

  References:
    Ridgeway & Mozer 2018, arXiv 1802.05312, section 3.
  """
  squares = np.square(information)
  most = squares.max(axis=1)
  others = squares.sum(axis=1) - most
  scale = most * max(information.shape[1] - 1, 1)
  scores = 1 - others / np.where(most > 0, scale, 1)
  return float(np.mean(np.where(most > 0, scores, 0)))


def importance(
  train: Train, test: Test, *, seed: int
) -> tuple[Matrix, Float[np.ndarray, " f"]]:
  """Returns the importance of each code for each factor in random trees.

  These take seconds, unlike the boosted trees of published scores. Each split
  considers all codes, because a split among noise only would give it
  importance.

  Returns:
    The mean decrease of impurity by each code, with columns that sum to 1 (0
    if no code is informative), and the accuracy of each factor's prediction on
    the test examples.
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


def disentanglement(matrix: Matrix) -> float:
  """Returns the D of DCI, in [0, 1]: whether a code predicts one factor.

  It is sum_i rho_i (1 - H_f(P_i)), where P_i is row i of the importance matrix
  divided by its sum, H_f the entropy to base f, and rho_i the share of row i
  in the sum of the matrix; 0 for a matrix of zeros.

  References:
    Eastwood & Williams 2018, openreview By-7dz-AZ, section 2.
  """
  totals = matrix.sum(axis=1)
  if not totals.sum():
    return 0.0
  shares = matrix / np.where(totals > 0, totals, 1)[:, None]
  # p log p is 0 at p = 0.
  entropies = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1)
  base = np.log(max(matrix.shape[1], 2))
  return float(np.sum(totals * (1 - entropies / base)) / totals.sum())


def completeness(matrix: Matrix) -> float:
  """Returns the C of DCI, in [0, 1]: whether one code predicts a factor."""
  return disentanglement(matrix.T)


def separability(train: Train, test: Test) -> Matrix:
  """Returns the test accuracy of a linear classifier of each factor by a code.

  The classifier is the linear support vector machine of published scores, with
  C = 0.01 and balanced classes. The primal problem is solved, in half the time
  of the dual one and without random numbers.
  """
  codes, factors = train

  def accuracy(i: int, k: int) -> float:
    line = svm.LinearSVC(C=0.01, class_weight="balanced", dual=False)
    line.fit(codes[:, i : i + 1], factors[:, k])
    return line.score(test[0][:, i : i + 1], test[1][:, k])

  shape = codes.shape[1], factors.shape[1]
  return np.array(_concurrently(accuracy, np.ndindex(shape))).reshape(shape)


def sap(matrix: Matrix) -> float:
  """Returns the separated attribute predictability, in [0, 1].

  It is the mean over factors of the gap between the two largest accuracies in
  a column of `separability`. Perfect codes of factors with tens of values score
  about 0.2, because one line cannot separate many classes. The score increases
  with the scale of the codes, because the classifier's penalty is absolute.

  References:
    Kumar et al. 2018, arXiv 1711.00848, section 3.
  """
  return float(np.mean(_gap(matrix)))


def explicitness(train: Train, test: Test) -> float:
  """Returns the explicitness, in [0.5, 1]: whether factors are linear in codes.

  It is the mean over factors and their values of the area under the ROC curve
  of a logistic regression of one value against the rest on all standardized
  codes; 0.5 is chance. Values that all or no examples of a part have are left
  out. Perfect codes of many ordered values do not reach 1, because the middle
  values are not linearly separable.

  References:
    Ridgeway & Mozer 2018, arXiv 1802.05312, section 3.
  """
  scaler = preprocessing.StandardScaler().fit(train[0])
  x, x_test = scaler.transform(train[0]), scaler.transform(test[0])

  def area(k: int, value: int) -> float:
    true, true_test = train[1][:, k] == value, test[1][:, k] == value
    if true.all() or true_test.all() or not true_test.any():
      return np.nan
    line = linear_model.LogisticRegression(max_iter=1000).fit(x, true)
    return metrics.roc_auc_score(true_test, line.decision_function(x_test))

  values = [np.unique(v).tolist() for v in train[1].T]
  pairs = [(k, value) for k in range(len(values)) for value in values[k]]
  areas = np.array(_concurrently(area, pairs))
  factor = np.where(np.isnan(areas), -1, [k for k, _ in pairs])
  means = [areas[factor == k].mean() for k in np.unique(factor) if k >= 0]
  return float(np.mean(means or 0.5))


def _classes(factors: np.ndarray) -> list[np.ndarray]:
  """Returns each factor's values as 0, 1, ... without gaps."""
  return [np.unique(v, return_inverse=True)[1] for v in factors.T]


def _gap(matrix: np.ndarray) -> np.ndarray:
  """Returns the largest minus the second largest entry of each column."""
  ordered = np.sort(matrix, axis=0)
  return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0)


def _concurrently(
  function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> list[Any]:
  """Calls a function with each tuple of arguments, on all cores."""
  # In threads, because the solvers release Python's lock.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    return list(pool.map(lambda argument: function(*argument), arguments))
