"""Latent diagnostics against closed forms and plain loops."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose
from scipy import special, stats

from tests.support.tiny import tiny_config
from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.distributions import DiagonalNormal, StandardNormal
from vae_jax.evaluate import bound, diagnostics
from vae_jax.runtime import devices as parallel
from vae_jax.training import batch as batch_lib
from vae_jax.training import build, experiment, step


@pytest.fixture(scope="module")
def model(faces_dir):
  """Returns a config, untrained variables on the host, and a split of 32."""
  c = tiny_config(faces_dir, data__binarization="dynamic")
  c.data.image_shape = (16, 16, 1)
  variables = build.init_variables(c, (16, 16, 1))
  # Larger than at the start, so that the latents say something.
  variables = jax.tree.map(lambda v: np.asarray(2 * v), variables)
  return c, variables, datasets.open_splits(c.data).test


def _posteriors(model, batch_size=24):
  c, variables, source = model
  c = c.copy_and_resolve_references()
  c.eval.batch_size = batch_size
  run, variables = experiment.build(c), parallel.replicate(variables)
  return diagnostics.posteriors(run, variables, source)


@pytest.fixture(scope="module")
def rows(model):
  return _posteriors(model)


def _random(n, d):
  values = np.random.default_rng(0).normal(size=(3, n, d)).astype(np.float32)
  mean, log_variance = values[0], values[1] - 1
  return mean + np.exp(log_variance / 2) * values[2], mean, log_variance


def test_posteriors_are_those_of_single_examples(model, rows):
  """Against a plain loop over examples, without padding or devices."""
  c, variables, source = model
  vae = build.model(c, (16, 16, 1), train=False)
  assert rows.mean.shape == (len(source), 3)

  @jax.jit
  def one(data):
    batch = batch_lib.eval_batch(c, data, jnp.uint32(c.eval.seed))

    def run(vae):
      posterior = vae.encode(batch.image)
      z = posterior.sample(batch.key)
      distortion = -vae.decode(z).log_prob(batch.image)
      return posterior.groups[0], z[0], posterior.kl(vae.prior()), distortion

    return nn.apply(run, vae)(variables)

  for i in range(0, len(source), 5):
    index = np.array([i], np.int32)
    data = {**source.fetch(index), "index": index, "mask": np.ones(1, bool)}
    posterior, z, kl, distortion = one(data)
    expected = posterior.mean, posterior.log_variance, z
    ours = rows.mean, rows.log_variance, rows.sample
    for a, b in zip(expected, ours, strict=True):
      assert_allclose(a[0], b[i], rtol=1e-4, atol=1e-5)
    assert kl[0] == pytest.approx(rows.kl[i].sum(), rel=1e-4)
    assert distortion[0] == pytest.approx(rows.distortion[i], rel=1e-5)


@pytest.mark.parametrize("devices, batch_size", [(1, 7), (8, 64)])
def test_number_of_devices_and_batch_size_change_nothing(
  model, rows, monkeypatch, devices, batch_size
):
  chosen = jax.devices()[:devices]
  monkeypatch.setattr(parallel, "devices", lambda: chosen)
  other = _posteriors(model, batch_size)
  for name, value in vars(rows).items():
    assert_allclose(value, vars(other)[name], rtol=1e-5, atol=1e-6)


def test_report_agrees_with_the_bound_and_is_json(model, tmp_path):
  c, variables, source = model
  run = experiment.build(c)
  replicated = parallel.replicate(variables)
  report = diagnostics.latent_report(run, replicated, source, tmp_path)
  assert json.loads(json.dumps(report, allow_nan=False)) == report
  assert [p.name for p in tmp_path.iterdir()] == ["latents.png"]
  eval_step, seed = step.make_eval_step(run), c.eval.seed
  means = bound.mean_terms(
    eval_step, replicated, source, batch_size=16, step=0, seed=seed
  )
  assert report["num_examples"] == means["num_examples"] == 32
  for name in ("distortion", "rate"):
    assert report[name] == pytest.approx(means[name], rel=1e-5)
  assert sum(report["kl_per_dimension"]) == pytest.approx(report["rate"])
  information = report["mutual_information"]
  assert report["marginal_kl"] == pytest.approx(report["rate"] - information)
  assert 0 < information < math.log(32)


def test_a_posterior_without_density_is_said_in_a_sentence(model):
  c, _, source = model
  c = c.copy_and_resolve_references()
  c.model.posterior.name = "deterministic"
  shapes = jax.eval_shape(lambda: build.init_variables(c, (16, 16, 1)))
  variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
  with pytest.raises(ConfigError, match="'deterministic' is Deterministic"):
    _posteriors((c, variables, source))


def test_mutual_information_of_a_linear_gaussian_model():
  """With z = x + noise, x ~ N(0, s^2): I = 1/2 log(1 + s^2 / v)."""
  rng = np.random.default_rng(0)
  n, s, v = 2000, np.array([3.0, 0.5]), np.array([1.0, 2.0])
  # Quantiles, shuffled in each dimension, stand for draws of x.
  quantiles = stats.norm.ppf((np.arange(n) + 0.5) / n)
  noise = np.stack([rng.permutation(quantiles) for _ in s], axis=1)
  mean = s * np.stack([rng.permutation(quantiles) for _ in s], axis=1)
  z = mean + np.sqrt(v) * noise
  log_variance = np.broadcast_to(np.log(v), mean.shape)
  arrays = map(np.float32, (z, mean, log_variance))
  result = diagnostics.mutual_information(*arrays)
  expected = 0.5 * np.log1p(s**2 / v).sum()
  assert result == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
  "distance, n, expected",
  [(200, 2, math.log(2)), (200, 40, math.log(2)), (0, 40, 0)],
)
def test_mutual_information_of_points(distance, n, expected):
  """Half the posteriors here, half there: one bit, or nothing."""
  noise = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
  mean = np.full((n, 3), -distance / 2, np.float32)
  mean[::2] = distance / 2
  result = diagnostics.mutual_information(mean + noise, mean, 0 * mean)
  assert result == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("block", [1, 4, 100])
def test_log_aggregate_is_the_mixture(block):
  z, mean, log_variance = _random(13, 4)
  arrays = map(jnp.asarray, (z, mean, log_variance))
  result = diagnostics.log_aggregate(*arrays, block=block)
  parts = stats.norm.logpdf(z[:, None], mean, np.exp(log_variance / 2)).sum(-1)
  expected = special.logsumexp(parts, axis=1) - math.log(13)
  assert_allclose(result, expected, rtol=1e-5)


def _rows_of(z, mean, log_variance):
  posterior = DiagonalNormal(*map(jnp.asarray, (mean, log_variance)))
  kl = np.asarray(posterior.kl_per_dimension(StandardNormal(mean.shape[1])))
  rate, distortion = kl.sum(axis=1), np.arange(len(mean), dtype=np.float32)
  return diagnostics.Posteriors(mean, log_variance, z, rate, distortion, kl)


def test_statistics_are_those_of_plain_loops():
  z, mean, log_variance = _random(50, 3)
  mean[:, 1] *= 0.05
  rows = _rows_of(z, mean, log_variance)
  report = diagnostics.statistics(rows, max_examples=1000, seed=0)
  assert report["distortion"] == 24.5
  for u in range(3):
    m, v = mean[:, u].astype(float), np.exp(log_variance[:, u].astype(float))
    center = sum(m) / 50
    spread = sum((x - center) ** 2 for x in m) / 50
    kl = np.mean(0.5 * (m * m + v - 1 - np.log(v)))
    # Var(z) = E[z^2] - E[z]^2, with E[z^2 | x] = v + m^2.
    second = np.mean(v + m * m)
    assert report["variance_of_means"][u] == pytest.approx(spread)
    assert report["kl_per_dimension"][u] == pytest.approx(kl, rel=1e-5)
    assert report["aggregate_mean"][u] == pytest.approx(center)
    assert report["aggregate_variance"][u] == pytest.approx(second - center**2)
  assert report["active_units"] == 2


def test_active_units_exceed_the_threshold():
  mean = np.array([[1.0], [-1.0]]) * np.sqrt([0.0099, 0.0101, 1.0])
  result = diagnostics.active_units(mean.astype(np.float32))
  assert result.tolist() == [False, True, True]


def test_subset_size_is_reported():
  rows = _rows_of(*_random(60, 2))
  whole, part, *others = (
    diagnostics.statistics(rows, max_examples=count, seed=seed)
    for count, seed in ((60, 0), (20, 0), (20, 1), (20, 2))
  )
  assert part["mutual_information_examples"] == 20
  assert part["num_examples"] == 60 and part["rate"] == whole["rate"]
  assert part["mutual_information"] < math.log(20)
  assert len({r["marginal_kl"] for r in (part, *others)}) == 3


@pytest.mark.parametrize("d", [1, 50])
def test_picture_fits_any_number_of_dimensions(d, tmp_path):
  z, mean, _ = _random(40, d)
  kl = np.linspace(0, 2, d)
  path = tmp_path / "latents.png"
  picture = figures.latent_diagnostics(kl, kl > 1, mean, z, path)
  assert picture.shape == (560, 1400, 3) and path.exists()
  # Nothing is cut off at the borders.
  for border in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
    assert np.all(border == 255)
