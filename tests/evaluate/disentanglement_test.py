"""Disentanglement scores: their ranges, their values, their invariances."""

import functools
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn import svm
from sklearn.metrics import mutual_info_score

from vae_jax.evaluate import disentanglement, fixed_factor_metrics
from vae_jax.evaluate import disentanglement_metrics as metrics

SIZES = (3, 6, 40, 32, 32)  # Of the factors of dSprites.
N = 3000
# The published implementation gives, for such codes: MIG .845, .134, .000; SAP
# .176, .061, .004; modularity .834, .897, .676; FactorVAE 1, 1, .215. Its trees
# are others, and DCI with them: .895, .313, .002.
RANGES = {
  "mig": ((0.8, 0.9), (0.03, 0.15), (0, 0.01), (0, 0)),
  "dci_disentanglement": ((0.9, 1), (0.1, 0.5), (0, 0.05), (0, 0)),
  "dci_completeness": ((0.9, 1), (0.1, 0.5), (0, 0.05), (0, 0)),
  "dci_informativeness": ((0.9, 1), (0.3, 0.6), (0.05, 0.2), (0.05, 0.2)),
  "sap": ((0.15, 0.2), (0, 0.1), (0, 0.02), (0, 0)),
  # Half of the aligned codes are noise.
  "modularity": ((0.8, 0.87), (0.77, 0.9), (0.6, 0.75), (0, 0)),
  "explicitness": ((0.7, 0.9), (0.7, 0.9), (0.45, 0.55), (0.5, 0.5)),
  "factor_vae": ((1, 1), (0.9, 1), (0.1, 0.3), (0, 0)),
  "beta_vae": ((1, 1), (0.98, 1), (0.1, 0.3), (0.2, 0.2)),
}


def _factors(sizes=SIZES, n=N):
  rng = np.random.default_rng(0)
  return np.stack([rng.integers(0, size, n) for size in sizes], axis=1)


def _standardize(values):
  return (values - values.mean(axis=0)) / values.std(axis=0)


def _codes():
  rng = np.random.default_rng(1)
  informative = _standardize(_factors()) + 0.02 * rng.normal(size=(N, 5))
  noise = rng.normal(size=(N, 5))
  rotation = np.random.default_rng(11).normal(size=(10, 10))
  return {
    "aligned": np.concatenate([informative, noise], axis=1),
    # Every factor in all of the ten codes.
    "rotated": informative @ np.linalg.qr(rotation)[0][:5],
    "noise": rng.normal(size=(N, 10)),
    "dead": 0.01 * np.concatenate([informative, noise], axis=1),
  }


@pytest.fixture(scope="module", autouse=True)
def few_points():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(fixed_factor_metrics, "TRAIN_POINTS", 2000)
    patch.setattr(fixed_factor_metrics, "TEST_POINTS", 1000)
    yield


@pytest.fixture(scope="module")
def scores():
  """Scores of each kind of codes, from one evaluation seed."""
  score = functools.partial(disentanglement.scores, factors=_factors())
  return {kind: score(codes, seeds=[0]) for kind, codes in _codes().items()}


@pytest.mark.parametrize("metric", RANGES)
def test_scores_of_aligned_rotated_noisy_and_dead_codes(scores, metric):
  for kind, (low, high) in zip(scores, RANGES[metric], strict=True):
    assert low <= scores[kind][metric]["mean"] <= high, kind


def test_matrices_are_largest_at_the_aligned_codes(scores):
  result = scores["aligned"]
  for matrix in (result["mutual_information"], result["importance"]):
    assert matrix.shape == (10, 5)
    assert_array_equal(matrix.argmax(axis=0), np.arange(5))
  assert result["active_codes"] == 10
  dead = scores["dead"]
  assert dead["active_codes"] == 0
  assert not dead["mutual_information"].any() and not dead["importance"].any()


def test_order_and_signs_of_codes_change_nothing():
  factors = _factors((3, 6, 10), n=900)
  rng = np.random.default_rng(2)
  informative = _standardize(factors) @ rng.normal(size=(3, 3))
  codes = np.concatenate([informative, rng.normal(size=(900, 2))], axis=1)
  order = np.array([3, 0, 4, 2, 1])
  one, again, permuted, flipped = (
    disentanglement.scores(changed, factors, seeds=[0])
    for changed in (codes, codes, codes[:, order], codes * [1, -1, -1, 1, -1])
  )
  for metric in RANGES:
    mean = one[metric]["mean"]
    assert again[metric]["mean"] == mean
    # The trees draw other random numbers for codes in another order.
    atol = 0.05 if metric.startswith("dci") else 5e-3
    assert permuted[metric]["mean"] == pytest.approx(mean, abs=atol), metric
    assert flipped[metric]["mean"] == pytest.approx(mean, abs=atol), metric
  information = one["mutual_information"]
  assert_allclose(permuted["mutual_information"], information[order])
  assert_allclose(flipped["mutual_information"], information)


def test_mutual_information_of_a_table():
  # Four in ten of each pair that agrees, one in ten of each that does not.
  codes = np.repeat([-1.0, -1.0, 3.0, 3.0], [4, 1, 1, 4])[:, None]
  factors = np.repeat([5, 9, 5, 9], [4, 1, 1, 4])[:, None]
  expected = 0.8 * np.log(0.4 / 0.25) + 0.2 * np.log(0.1 / 0.25)
  information = metrics.mutual_information(codes, factors)
  assert_allclose(information, [[expected]], rtol=1e-12)
  assert_allclose(metrics.entropy(factors), [np.log(2)])


def test_mutual_information_is_that_of_scikit_learn():
  codes, factors = _codes()["rotated"], _factors()
  information = metrics.mutual_information(codes, factors)
  for i, k in ((0, 0), (1, 2), (7, 4)):
    edges = np.histogram_bin_edges(codes[:, i], 20)
    binned = np.digitize(codes[:, i], edges[1:-1])
    expected = mutual_info_score(binned, factors[:, k])
    assert_allclose(information[i, k], expected, rtol=1e-3)


def test_mig_sap_and_modularity_of_a_table():
  table = np.array([[0.9, 0.1], [0.3, 0.0], [0.0, 0.0]])
  mig = metrics.mig(table, np.array([1.2, 0.5]))
  assert mig == pytest.approx((0.6 / 1.2 + 0.1 / 0.5) / 2)
  assert metrics.sap(table) == pytest.approx((0.6 + 0.1) / 2)
  # The second code has information about one factor, the third about none.
  expected = (1 - 0.01 / 0.81 + 1 + 0) / 3
  assert metrics.modularity(table) == pytest.approx(expected)
  assert metrics.mig(table[:1], np.ones(2)) == pytest.approx(0.5)


def test_dci_of_a_table():
  assert metrics.disentanglement(np.eye(3)) == 1
  assert metrics.completeness(np.eye(3)) == 1
  # Two codes share the first factor; one of them serves the second too.
  shared = np.array([[0.5, 0.0], [0.5, 1.0]])
  h = -(1 / 3 * np.log2(1 / 3) + 2 / 3 * np.log2(2 / 3))
  for table, d, c in (
    (np.full((4, 3), 0.25), 0, 0),
    (shared, 0.25 * 1 + 0.75 * (1 - h), 0.5 * 0 + 0.5 * 1),
  ):
    assert metrics.disentanglement(table) == pytest.approx(d, abs=1e-12)
    assert metrics.completeness(table) == pytest.approx(c, abs=1e-12)
  assert metrics.disentanglement(np.zeros((2, 2))) == 0


def test_separability_is_that_of_the_dual_classifier():
  rotated, factors = _codes()["rotated"], _factors()
  x, v = np.split(rotated[:, :3], [2000]), np.split(factors[:, :2], [2000])
  accuracy = metrics.separability(*zip(x, v, strict=True))
  for i, k in np.ndindex(3, 2):
    line = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=0)
    line.fit(x[0][:, [i]], v[0][:, k])
    expected = line.score(x[1][:, [i]], v[1][:, k])
    assert accuracy[i, k] == pytest.approx(expected, abs=5e-3)


def test_explicitness_leaves_out_values_that_one_part_lacks():
  codes = np.linspace(-1, 1, 40)[:, None]
  factors = (codes > 0).astype(int)
  odd = factors.copy()
  odd[0] = 7
  test = codes[1::2], factors[1::2]
  assert metrics.explicitness((codes[::2], factors[::2]), test) == 1
  assert metrics.explicitness((codes, odd), test) == 1
  assert metrics.explicitness((codes, 0 * factors), test) == 0.5


def test_partners_share_the_value_and_are_others():
  factors = np.array([[0, 1], [2, 1], [0, 1], [2, 1], [5, 1], [0, 1]])
  groups = fixed_factor_metrics._Groups(factors)
  rng = np.random.default_rng(0)
  examples = groups.examples(rng, 0, (200, 5))
  # Example 4 has its value alone.
  assert set(np.unique(examples)) == {0, 1, 2, 3, 5}
  partners = groups.partners(rng, 0, examples)
  assert np.all(factors[examples, 0] == factors[partners, 0])
  assert np.all(examples != partners)
  assert set(partners[examples == 0]) == {2, 5}


def test_scores_without_shared_values_are_refused():
  codes, factors = np.eye(4), np.arange(4)[:, None]
  for score in (fixed_factor_metrics.factor_vae, fixed_factor_metrics.beta_vae):
    with pytest.raises(ValueError, match="no value that two examples share"):
      score((codes, factors), (codes, factors), seed=0)


def test_interval_is_that_of_students_t():
  summary = disentanglement._summary([1.0, 2.0, 3.0])
  assert summary["mean"] == 2
  # t quantile 4.3027 at 0.975 with 2 degrees of freedom; sd 1.
  half = 4.3027 / 3**0.5
  assert_allclose(summary["interval"], [2 - half, 2 + half], rtol=1e-4)
  assert disentanglement._summary([1.0]) == {"mean": 1.0, "interval": None}


def test_evaluation_is_json_with_pictures(tmp_path):
  rng = np.random.default_rng(3)
  factors = _factors((3, 6), n=300)
  codes = _standardize(factors).astype(np.float32)
  codes += 0.1 * rng.normal(size=codes.shape).astype(np.float32)
  rare = np.arange(300) < 5
  values = np.column_stack([factors, np.full(300, 4), rare]).astype(np.int32)
  names = ["shape", "scale", "color", "blink"]
  folder = tmp_path / "new"
  first = disentanglement.evaluate_codes(
    codes, values, names, folder, seeds=(4, 5)
  )
  assert first == json.loads(json.dumps(first))
  assert first["factors"] == ["shape", "scale"]
  assert first["dropped_factors"] == ["color", "blink"]
  assert first["num_examples"] == 300 and first["seeds"] == [4, 5]
  for metric in RANGES:
    low, high = first[metric]["interval"]
    assert low <= first[metric]["mean"] <= high
  assert np.shape(first["importance"]) == (2, 2)
  files = sorted(path.name for path in folder.iterdir())
  assert files == ["disentanglement_importance.png", "disentanglement_mi.png"]
  for file in files:
    with Image.open(folder / file) as picture:
      assert min(picture.size) >= 200


def test_invalid_input_is_refused(tmp_path):
  valid = {"codes": np.zeros((30, 2)), "factors": np.arange(30)[:, None] % 2}
  for change, message in (
    ({"codes": np.full((30, 2), np.nan)}, "codes holds nan"),
    ({"seeds": ()}, "seeds is empty"),
    ({"factors": np.eye(30, 1, dtype=int)}, "does not vary in column 0"),
  ):
    with pytest.raises(ValueError, match=message):
      disentanglement.scores(**{**valid, "seeds": (0,), **change})
  codes, values = np.zeros((20, 2)), np.zeros((20, 1), int)
  expected = {
    "ab": "factor_names has 2 names",
    "a": "has no factor that varies",
  }
  for names, message in expected.items():
    with pytest.raises(ValueError, match=message):
      disentanglement.evaluate_codes(codes, values, list(names), tmp_path)
