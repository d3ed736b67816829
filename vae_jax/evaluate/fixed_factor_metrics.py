"""Disentanglement metrics from examples that share the value of one factor.

Published code renders such examples. Here they are drawn from a split, so that
the metrics apply to any data set with factors. Codes and factors are as in
`disentanglement_metrics`.
"""

import numpy as np
from sklearn import linear_model

from vae_jax.evaluate.disentanglement_metrics import Test, Train

_BATCH = 64  # Examples, or pairs, per point.
TRAIN_POINTS = 10_000
TEST_POINTS = 5_000


def factor_vae(train: Train, test: Test, *, seed: int) -> float:
  """Returns the accuracy of predicting the fixed factor by the steadiest code.

  A point is the code with the smallest Var_batch(z_i) / Var(z_i) among 64
  examples that share the value of a factor. A majority vote over 10,000 points
  maps each code to a factor; the score is the accuracy of that map on 5,000
  points of the test examples. Constant codes are left out; the score is 0 if
  all are constant. Rotated codes can score as high as aligned ones,
  and chance is about 1 / f.

  Raises:
    ValueError: no two examples of a part share a value.

  References:
    Kim & Mnih 2018, arXiv 1802.05983, section 4.
  """
  scale = train[0].std(axis=0)
  active = scale > 0
  if not active.any():
    return 0.0
  rng = np.random.default_rng(seed)
  fixable, parts = _parts(train, test)
  votes = []
  for codes, group, count in parts:
    codes = (codes / np.where(active, scale, 1))[:, active]
    table = np.zeros((codes.shape[1], len(fixable)), np.int64)
    for column, k in enumerate(fixable):
      one = group.examples(rng, k, (count, 1))
      others = np.repeat(one, _BATCH - 1, axis=1)
      batch = np.concatenate([one, group.partners(rng, k, others)], axis=1)
      steadiest = codes[batch].var(axis=1).argmin(axis=-1)
      table[:, column] = np.bincount(steadiest, minlength=len(table))
    votes.append(table)
  guess = votes[0].argmax(axis=1)
  correct = np.take_along_axis(votes[1], guess[:, None], axis=1)
  return float(correct.sum() / votes[1].sum())


def beta_vae(train: Train, test: Test, *, seed: int) -> float:
  """Returns the accuracy of predicting the fixed factor from code differences.

  A point is the mean of |z - z'| over 64 pairs of examples, where each pair
  shares the value of one factor. A logistic regression is fitted to 10,000
  points; the score is its accuracy on 5,000 points of the test examples, and
  chance is about 1 / f.

  Raises:
    ValueError: no two examples of a part share a value.

  References:
    Higgins et al. 2017, openreview Sy2fzU9gl, section 3.
  """
  rng = np.random.default_rng(seed)
  fixable, parts = _parts(train, test)
  if len(fixable) == 1:
    return 1.0
  points, labels = [], []
  for codes, group, count in parts:
    distances = []
    for k in fixable:
      one = group.examples(rng, k, (count, _BATCH))
      other = group.partners(rng, k, one)
      distances.append(np.abs(codes[one] - codes[other]).mean(axis=1))
    points.append(np.concatenate(distances))
    labels.append(np.repeat(fixable, count))
  model = linear_model.LogisticRegression(max_iter=1000)
  model.fit(points[0], labels[0])
  return float(model.score(points[1], labels[1]))


class _Groups:
  """Examples by their value of each factor."""

  def __init__(self, factors: np.ndarray):
    self._order = np.argsort(factors, axis=0, kind="stable")
    self._place = np.argsort(self._order, axis=0)  # Its inverse.
    self._start = np.empty_like(self._order)
    self.size = np.empty_like(self._order)
    for k, values in enumerate(factors.T):
      _, group, sizes = np.unique(
        values, return_inverse=True, return_counts=True
      )
      self._start[:, k] = (np.cumsum(sizes) - sizes)[group]
      self.size[:, k] = sizes[group]

  def examples(
    self, rng: np.random.Generator, k: int, shape: tuple[int, ...]
  ) -> np.ndarray:
    """Draws examples that share their value of factor k with another one."""
    return rng.choice(np.flatnonzero(self.size[:, k] > 1), shape)

  def partners(
    self, rng: np.random.Generator, k: int, examples: np.ndarray
  ) -> np.ndarray:
    """Draws another example with the same value of factor k for each one."""
    start, size = self._start[examples, k], self.size[examples, k]
    place = self._place[examples, k] - start + rng.integers(1, size)
    return self._order[start + place % size, k]


def _parts(
  train: Train, test: Test
) -> tuple[list[int], list[tuple[np.ndarray, _Groups, int]]]:
  """Returns the factors of which two examples share a value in both parts, and
  for each part codes, groups and number of points for each of these factors."""
  groups = _Groups(train[1]), _Groups(test[1])
  shared = np.logical_and(*((group.size > 1).any(axis=0) for group in groups))
  if not shared.any():
    raise ValueError(
      "factors has no value that two examples share in both the train and the "
      "test part; more examples or coarser factors are needed."
    )
  counts = (max(n // shared.sum(), 1) for n in (TRAIN_POINTS, TEST_POINTS))
  parts = zip((train[0], test[0]), groups, map(int, counts), strict=True)
  return np.flatnonzero(shared).tolist(), list(parts)
