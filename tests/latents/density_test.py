"""Densities fitted to the codes of a model, in the place of its prior."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal
from safetensors import numpy as safetensors

from tests.support import linear_gaussian_vae as linear
from tests.support.tiny import assert_trees_equal, tiny_config, untrained
from vae_jax.config import ConfigError
from vae_jax.latents import density, density_file, gaussian_mixture
from vae_jax.models import fitted_prior
from vae_jax.objectives import elbo

LINEAR = {
  "model__encoder__args__hidden": (),
  "model__decoder__args__hidden": (),
}


@pytest.fixture
def make(faces_dir, tmp_path):
  def make(**settings):
    return untrained(tiny_config(faces_dir, **LINEAR, **settings), tmp_path)

  return make


@pytest.fixture
def one_component(monkeypatch):
  monkeypatch.setattr(gaussian_mixture, "_MOST", 1)


def arrays_of(model):
  """Returns the arrays of the density that a model has."""
  return model.variables["density"]["latent_prior"]["arrays"]


def covariance_of(arrays):
  scale = np.float64(arrays["scale_tril"])
  return scale @ scale.swapaxes(-1, -2)


def test_one_normal_of_a_linear_autoencoder_is_the_data_in_latent_space(
  make, one_component
):
  """z = A x + c has mean A m + c and covariance A S A^T."""
  model = make(
    model__posterior__name="deterministic", objective__name="autoencoder",
    model__likelihood__name="gaussian",
  )  # fmt: skip
  source = model.experiment.source("train")
  images = source.fetch(np.arange(len(source)))["image"]
  pixels = images.reshape(len(images), -1) / 255
  head = model.variables["params"]["posterior"]["Dense_0"]
  kernel = np.float64(head["kernel"])
  arrays = arrays_of(density.applied(model, "gaussian_mixture"))
  center = pixels.mean(0) @ kernel + head["bias"]
  assert_allclose(arrays["mean"][0], center, rtol=1e-4, atol=1e-6)
  exact = kernel.T @ np.cov(pixels.T, bias=True) @ kernel
  assert_allclose(covariance_of(arrays)[0], exact, rtol=1e-3, atol=1e-9)
  # It is what an autoencoder draws from.
  expected = model.sample(3, density="gaussian_mixture")
  assert_array_equal(model.sample(3), expected)


def test_bound_of_the_linear_model_moves_to_its_closed_form():
  """The rate becomes KL(q || N(m, S)), and the distortion stays."""
  params, _ = linear.exact_model()
  images = np.tile(linear.images_of(8), (2500, 1, 1, 1))
  batch = linear.batch_of(images)
  codes = linear.draw_of(params, batch)
  arrays, _ = gaussian_mixture.fit(codes, seed=0, components=1)
  prior = fitted_prior.FittedPrior(gaussian_mixture.build)
  vae = linear.VAE.clone(latent_prior=prior)
  state = fitted_prior.variables(arrays)
  run = linear.jit(lambda p, s: linear.run(elbo.elbo, vae, p, batch, **s))
  terms = run(params, state)
  by_hand = linear.distortion_of(params, codes, images)
  assert_allclose(terms.distortion, by_hand, rtol=1e-4, atol=1e-4)

  mean, log_variance = linear.code_of(params, images)
  m, s = np.float64(arrays["mean"][0]), covariance_of(arrays)[0]
  log_q = scipy.stats.norm.logpdf(codes, mean, np.exp(log_variance / 2)).sum(1)
  log_p = scipy.stats.multivariate_normal(m, s).logpdf(codes)
  assert_allclose(terms.rate, log_q - log_p, rtol=1e-4, atol=2e-4)

  precision, variance = np.linalg.inv(s), np.exp(log_variance)
  square = np.einsum("bi,ij,bj->b", mean - m, precision, mean - m)
  square += variance @ np.diag(precision)
  log_ratio = np.linalg.slogdet(s)[1] - log_variance.sum(1)
  closed = 0.5 * (square - 2 + log_ratio)
  error = np.std(terms.rate - closed) / np.sqrt(len(images))
  assert abs(np.mean(terms.rate - closed)) < 4 * error < 0.03
  # KL(q(z) || p(z)) is what the fit saves.
  assert closed.mean() < linear.kl_of(params, images).sum(1).mean() - 0.1


def test_draws_are_from_the_density(make):
  model = make()
  fitted = density.applied(model, "gaussian_mixture")
  assert density.applied(model, "prior") is model
  assert density.applied(model, "gaussian_mixture") is fitted
  codes = fitted.drawn_codes(
    np.arange(9, dtype=np.int32), temperature=0.0, seed=4
  )
  # Without deviation they are means of components.
  distance = codes[:, None] - arrays_of(fitted)["mean"]
  assert np.abs(distance).max(-1).min(1).max() < 1e-5
  draws = model.sample(5, seed=4, density="gaussian_mixture")
  codes = fitted.drawn_codes(
    np.arange(5, dtype=np.int32), temperature=1.0, seed=4
  )
  assert_allclose(draws.astype(int), model.decode(codes), atol=1)


def test_density_is_the_same_on_any_devices_and_twice(
  make, tmp_path, use_devices
):
  contents = []
  for count in (1, 8, 8):
    use_devices(count)
    density.applied(make(), "gaussian_mixture", again=True)
    files = sorted((tmp_path / "density").iterdir())
    contents.append([file.read_bytes() for file in files])
  assert [f.suffix for f in files] == [".json", ".safetensors"]
  assert contents[0] == contents[1] == contents[2]


def test_record_names_what_a_density_was_fitted_to(make, tmp_path):
  fitted = density.applied(make(seed=3), "gaussian_mixture")
  card = json.loads((tmp_path / "density/gaussian_mixture.json").read_text())
  assert card["density"] == "gaussian_mixture" and card["step"] == 0
  assert card["codes"] == 64 and len(card["fits"]) == 1
  assert card["config"]["model.latent_dim"] == 3
  assert card["config"]["seed"] == 3 and "data.dir" not in card["config"]
  assert card["fits"][0]["components"] == 10
  stored = safetensors.load_file(
    tmp_path / "density/gaussian_mixture.safetensors"
  )
  assert_trees_equal(stored, dict(arrays_of(fitted)))


def test_density_of_the_same_checkpoint_is_read(make, monkeypatch):
  fitted = density.applied(make(), "gaussian_mixture")
  monkeypatch.setattr(gaussian_mixture, "fit", None)
  # Another seed of samples is no reason to fit again.
  model = make()
  model.config.sample.seed = model.config.eval.seed = 5
  again = density.applied(model, "gaussian_mixture")
  assert_trees_equal(dict(arrays_of(again)), dict(arrays_of(fitted)))


def test_density_of_another_checkpoint_or_a_damaged_one_is_fitted_again(
  make, tmp_path, caplog
):
  fitted = density.applied(make(), "gaussian_mixture")
  other = make()
  moved = jax.tree.map(lambda v: v + 1, other.variables)
  other = dataclasses.replace(other, variables=moved, step=7)
  with caplog.at_level("INFO", "absl"):
    refitted = density.applied(other, "gaussian_mixture")
  assert "is of step 0 of other weights; it is fitted again for step 7" in (
    caplog.text
  )
  assert (arrays_of(refitted)["mean"] != arrays_of(fitted)["mean"]).any()
  path = tmp_path / "density" / "gaussian_mixture.safetensors"
  whole = path.read_bytes()
  path.write_bytes(whole[:-8] + b"\0" * 8)
  assert density_file.read(other, "gaussian_mixture") is None
  assert "is not the file that" in caplog.text
  path.with_suffix(".json").write_text("[]")
  assert density_file.read(other, "gaussian_mixture") is None
  other.with_densities.clear()
  density.applied(other, "gaussian_mixture")
  assert path.read_bytes() == whole


def test_other_data_than_the_training_s_are_refused(make):
  with pytest.raises(ConfigError, match="fit it first, by --mode=fit_density"):
    density.applied(make(), "gaussian_mixture", may_fit=False)


def test_conditional_model_has_a_density_for_each_class(make):
  model = make(
    model__condition="label", data__label="attributes/Smiling",
    data__num_labels=3, model__latent_dim=2,
  )  # fmt: skip
  source = model.experiment.source("train")
  codes, labels = model.posterior_draws(source, seed=0)
  fitted = density.applied(model, "gaussian_mixture")
  arrays, record = arrays_of(fitted), model.workdir / "density"
  count = int(min(np.bincount(labels)))
  components = gaussian_mixture.components(count, 2)
  for y, own in enumerate([codes[labels == 0], codes[labels == 1], codes]):
    expected, _ = gaussian_mixture.fit(own, seed=0, components=components)
    assert_allclose(arrays["mean"][y], expected["mean"], rtol=1e-4, atol=1e-5)
  card = json.loads((record / "gaussian_mixture.json").read_text())
  # No image has the third class.
  assert card["of_all"] == [card["classes"][2]]
  label = np.array([1, 0, 1, 0])
  drawn = fitted.drawn_codes(
    np.arange(4, dtype=np.int32), label, temperature=0.0, seed=0
  )
  for code, y in zip(drawn, label, strict=True):
    assert np.abs(arrays["mean"][y] - code).max(-1).min() < 1e-5
    assert np.abs(arrays["mean"][1 - y] - code).max(-1).min() > 1e-4
  _check_images(fitted)


def _check_images(fitted):
  """Where the density of one class moves away, only its images lose."""
  data = fitted.experiment.source("test").fetch(np.arange(8))
  image, label = data["image"], data["label"]
  arrays = dict(arrays_of(fitted))
  arrays["mean"] = arrays["mean"] + np.float32([[[0]], [[100]], [[0]]])
  state = {**fitted.variables, **fitted_prior.variables(arrays)}
  moved = dataclasses.replace(fitted, variables=state)
  for terms in (
    lambda model: model.score(image, label=label)["rate"],
    lambda model: -model.log_prob(image, samples=3, label=label),
  ):
    change = terms(moved) - terms(fitted)
    assert_array_equal(change[label == 0], 0)
    assert (change[label == 1] > 100).all()


def test_autoencoders_draw_from_the_mixture_by_default(make, caplog):
  model = make()
  config = model.config.copy_and_resolve_references()
  assert density.choose(config, None) == "prior"
  config.objective.name = "rae"
  with caplog.at_level("INFO", "absl"):
    assert density.choose(config, None) == "gaussian_mixture"
  assert "--density=prior" in caplog.text
  assert density.choose(config, "prior") == "prior"
  config.objective.name = "wae_mmd"
  config.model.posterior.name = "deterministic"
  assert density.choose(config, None) == "gaussian_mixture"
  with pytest.raises(
    ConfigError,
    match="density is 'gmm'; it must be one of prior, gaussian_mixture, flow",
  ):
    model.sample(1, density="gmm")
