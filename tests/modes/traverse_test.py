"""`--mode=traverse`: values and ranking of latents by closed forms."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from scipy import stats

from tests.modes.conftest import SHAPE


def posterior(image, model):
  """Returns mean and log variance of the code of each image."""
  group = nn.apply(lambda vae: vae.encode(jnp.asarray(image)), model.vae)(
    model.variables
  )
  (normal,) = group.groups
  return np.float64(normal.mean), np.float64(normal.log_variance)


def test_each_latent_is_set_to_quantiles(make, draw, fetch):
  model = make()
  text, arrays = draw("traverse", model, images="data:test:6", steps=3)
  assert text.endswith("figures/traverse.png")
  (code,) = model.encode(fetch(model, 6)["image"])
  quantiles = stats.norm.ppf([1 / 6, 1 / 2, 5 / 6])
  np.testing.assert_allclose(arrays["values"], [quantiles] * 3, atol=1e-6)
  assert arrays["images"].shape == (1, 3, 3, *SHAPE)
  for j in range(3):
    for k in range(3):
      varied = code.copy()
      varied[j] = quantiles[k]
      np.testing.assert_allclose(
        arrays["images"][0, j, k].astype(int),
        model.decode(varied[None])[0],
        atol=1,
      )


def test_latents_are_ranked_by_closed_form_kl(make, draw, fetch):
  """Against the closed form of the KL, image by image."""
  model = make()
  _, arrays = draw("traverse", model, steps=2)
  mean, log_variance = posterior(fetch(model, *range(32))["image"], model)
  kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
  np.testing.assert_allclose(arrays["carried"], kl.mean(axis=0), rtol=1e-4)
  assert (np.diff(arrays["carried"][arrays["order"]]) <= 0).all()


def test_latents_without_closed_form_are_ranked_by_kl_to_aggregate(
  make, draw, fetch
):
  model = make(
    model__prior__name="gaussian_mixture", model__prior__args__num_components=2
  )
  _, arrays = draw("traverse", model, steps=4)
  mean, log_variance = posterior(fetch(model, *range(32))["image"], model)
  variance = np.exp(log_variance)
  m, v = mean.mean(axis=0), (mean**2 + variance).mean(axis=0)
  v = v - m**2
  kl = 0.5 * (((mean - m) ** 2 + variance) / v - 1 - np.log(variance / v))
  np.testing.assert_allclose(arrays["carried"], kl.mean(axis=0), rtol=1e-4)
  levels = np.quantile(mean, [0.125, 0.375, 0.625, 0.875], axis=0).T
  np.testing.assert_allclose(arrays["values"], levels, atol=1e-5)


def test_deterministic_latents_are_ranked_by_deviation(make, draw, fetch):
  model = make(
    objective__name="autoencoder",
    model__posterior__name="deterministic",
    model__likelihood__name="gaussian",
    model__latent_dim=40,
  )
  text, arrays = draw("traverse", model, images="data:test:0-1", steps=2)
  assert [pathlib.Path(x).name for x in text.splitlines()] == [
    "traverse_0.png",
    "traverse_1.png",
  ]
  codes = model.encode(fetch(model, *range(32))["image"])
  np.testing.assert_allclose(arrays["carried"], codes.std(axis=0), rtol=1e-4)
  levels = np.quantile(codes, [0.25, 0.75], axis=0).T
  np.testing.assert_allclose(arrays["values"], levels, rtol=1e-4, atol=1e-5)
  # All in the array; the picture is of 32.
  assert arrays["images"].shape == (2, 40, 2, *SHAPE)
  assert np.asarray(Image.open(text.splitlines()[0])).shape[0] < 33 * 70
  draw("traverse", model, images="data:test:0", steps=2)
  (left,) = (model.workdir / "figures").glob("*.png")
  assert left.name == "traverse.png"


def test_conditional_model_receives_labels_of_images(
  make, draw, fetch, conditional
):
  model = make(**conditional)
  _, arrays = draw("traverse", model, images="data:test:0-7", steps=2)
  data = fetch(model, *range(8))
  assert len(set(data["label"].tolist())) == 2
  varied = model.encode(data["image"], data["label"])
  varied[:, 1] = arrays["values"][1, 0]
  decoded = model.decode(varied, data["label"])
  np.testing.assert_array_equal(arrays["images"][:, 1, 0], decoded)


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"steps": 101}, "--steps is 101; it must be from 2 to 100"),
    ({"images": "nobody.png"}, "there is no such file"),
  ],
)
def test_wrong_flags_are_refused(make, refusal, flags, message):
  assert message in refusal("traverse", make(), **flags)
