"""Modes with `--density`: what is drawn, and what is evaluated."""

import json
import pathlib

import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from safetensors import numpy as safetensors

import vae_jax
from vae_jax import modes
from vae_jax.config import ConfigError
from vae_jax.modes import evaluate

NAME = "gaussian_mixture"


@pytest.fixture(scope="module")
def fitted(run):
  """A run with a density, and its model."""
  config, folder = run
  path = pathlib.Path(modes.find("fit_density").run(config, folder, {}))
  assert path == pathlib.Path(folder) / "density" / f"{NAME}.safetensors"
  assert path.exists() and path.with_suffix(".json").exists()
  return config, folder, vae_jax.load(folder)


def call(mode, fitted, **flags):
  config, folder, _ = fitted
  return modes.find(mode).run(config, folder, flags)


def arrays(fitted, name):
  return dict(np.load(pathlib.Path(fitted[1]) / "figures" / f"{name}.npz"))


def test_samples_are_those_of_python(fitted):
  model = fitted[2]
  call("sample", fitted, count=6, temperature=0.5, density=NAME)
  images = arrays(fitted, "samples")["images"]
  assert_array_equal(images, model.sample(6, 0.5, density=NAME))
  call("sample", fitted, count=6, density="prior")
  assert_array_equal(arrays(fitted, "samples")["images"], model.sample(6))


def test_paths_go_between_draws(fitted):
  model = fitted[2]
  call("interpolate", fitted, steps=3, density=NAME)
  path = arrays(fitted, "interpolate")
  draws = model.sample(8, density=NAME).reshape(4, 2, *model.image_shape)
  assert_allclose(path["originals"].astype(int), draws, atol=1)
  assert_array_equal(path["images"][:, 0, 0], path["originals"][:, 0])
  assert_array_equal(path["images"][:, 1, -1], path["originals"][:, 1])
  with pytest.raises(ConfigError, match="give one of them"):
    call("interpolate", fitted, images="data:test:0-1", density=NAME)


def numbers(fitted, **flags):
  config = fitted[0].copy_and_resolve_references()
  config.eval.importance_samples = 4
  return evaluate.evaluate(config, fitted[1], **flags)


@pytest.fixture(scope="module")
def plain(fitted):
  return numbers(fitted)


@pytest.fixture(scope="module")
def result(fitted):
  return numbers(fitted, density=NAME)


def test_prior_is_what_is_evaluated_without_the_flag(fitted, plain):
  assert plain["density"] == "prior"
  assert numbers(fitted, density="prior") == plain


def test_bound_has_the_density_in_place_of_the_prior(fitted, plain, result):
  _, folder, model = fitted
  written = pathlib.Path(folder) / "eval" / NAME / "test.json"
  assert json.loads(written.read_text()) == result
  assert result["density"] == NAME
  assert result["distortion"] == pytest.approx(plain["distortion"], rel=1e-6)
  total = result["distortion"] + result["rate"]
  assert result["neg_elbo"] == pytest.approx(total, rel=1e-6)
  assert result["nll"] < result["neg_elbo"] + 0.5
  # The same draws by another way, at the densities of scipy.
  source = model.experiment.source("test")
  images = source.fetch(np.arange(len(source)))["image"]
  mean, deviation = model.encode(images), model.deviations(images)
  rng = np.random.default_rng(0)
  z = mean[None] + deviation * rng.normal(size=(500, *mean.shape))
  log_q = scipy.stats.norm.logpdf(z, mean, deviation).sum(-1)
  log_p = _log_mixture(pathlib.Path(folder), z)
  exact = (log_q - log_p).mean(0)
  spread = (log_q - log_p).std(0)
  error = np.sqrt((spread**2).sum()) / len(images)
  assert abs(result["rate"] - exact.mean()) < 4 * error + 1e-3


def _log_mixture(folder, z):
  own = safetensors.load_file(folder / "density" / f"{NAME}.safetensors")
  own = {k: np.float64(v) for k, v in own.items()}
  weights = scipy.special.log_softmax(own["logits"])
  each = [
    w + scipy.stats.multivariate_normal(m, s @ s.T).logpdf(z)
    for w, m, s in zip(weights, own["mean"], own["scale_tril"], strict=True)
  ]
  return scipy.special.logsumexp(each, axis=0)


def test_devices_change_no_number(fitted, result, use_devices):
  use_devices(1)
  one = numbers(fitted, density=NAME)
  for name in ("neg_elbo", "rate", "nll", "marginal_kl"):
    assert one[name] == pytest.approx(result[name], rel=1e-5)


def test_samples_of_fidelity_are_from_the_density(fitted, monkeypatch):
  config, folder, model = fitted
  config = config.copy_and_resolve_references()
  config.eval.update(
    fidelity=True, latents=False, num_samples=20,
    features={"name": "encoder", "args": {"workdir": folder}},
  )  # fmt: skip
  drawn = []

  def measure(features, reference, samples, reconstructions, **_):
    drawn.append(np.concatenate(list(samples)))
    return {}

  monkeypatch.setattr(evaluate.fidelity, "evaluate_fidelity", measure)
  result = evaluate.evaluate(config, folder, density=NAME)
  assert result["fidelity"]["density"] == NAME
  expected = model.sample(20, density=NAME).astype(int)
  assert_allclose(drawn[0], expected, atol=1)


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"density": "prior"}, "--density is 'prior', which is trained with"),
    ({"density": "gmm"}, "density is 'gmm'; it must be one of prior, gauss"),
  ],
)
def test_wrong_densities_are_refused(fitted, flags, message):
  with pytest.raises(ConfigError) as caught:
    call("fit_density", fitted, **flags)
  assert message in str(caught.value) and "\n" not in str(caught.value)
