"""Multi-scale SSIM against another implementation, and its loss."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from tests.support import linear_gaussian_vae as linear
from vae_jax.objectives import ssim_vae

WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]


def pictures(h, w, c, seed=0):
  """Returns a smooth picture and a noisy, darker copy, in [0, 1]."""
  rng = np.random.default_rng(seed)
  picture = scipy.ndimage.gaussian_filter(rng.normal(size=(h, w, c)), (2, 2, 0))
  picture = 0.5 + 0.2 * picture / picture.std()
  copy = 0.8 * picture + 0.1 * rng.normal(size=picture.shape)
  return np.clip(picture, 0, 1), np.clip(copy, 0, 1)


def blur(x):
  """Returns the 11 x 11 Gaussian mean of a gray picture, where it fits."""
  return scipy.ndimage.gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]


def reference(a, b, scales):
  """Returns MS-SSIM of two gray pictures, by the formulas of the paper."""
  weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
  result = 1.0
  for scale, weight in enumerate(weights):
    ma, mb = blur(a), blur(b)
    va, vb = blur(a * a) - ma**2, blur(b * b) - mb**2
    covariance = blur(a * b) - ma * mb
    factor = (2 * covariance + 0.03**2) / (va + vb + 0.03**2)
    if scale == scales - 1:
      factor = factor * (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2)
    result *= factor.mean() ** weight
    h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
    a, b = (
      sum(v[i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)) / 4 for v in (a, b)
    )
  return result


compiled = linear.jit(ssim_vae.multiscale_ssim)


def similarity(a, b):
  return np.asarray(compiled(jnp.float32(a), jnp.float32(b)))


@pytest.mark.parametrize(
  "shape, scales", [((11, 21, 1), 1), ((45, 48, 3), 3), ((176, 180, 1), 5)]
)
def test_ms_ssim_agrees_with_another_implementation(shape, scales):
  a, b = pictures(*shape)
  channels = [reference(a[..., i], b[..., i], scales) for i in range(shape[2])]
  assert 0.1 < np.mean(channels) < 0.95
  np.testing.assert_allclose(
    similarity(a[None], b[None]), [np.mean(channels)], rtol=1e-4
  )


def test_ms_ssim_of_equal_pictures_is_1_and_is_symmetric():
  a, b = pictures(29, 28, 1)
  both, turned = np.stack([a, b, a]), np.stack([a, b, b])
  np.testing.assert_allclose(similarity(both, both), 1, atol=1e-5)
  there, back = similarity(both, turned), similarity(turned, both)
  np.testing.assert_allclose(there, back, rtol=1e-5)
  np.testing.assert_allclose(there[:2], 1, atol=1e-5)
  assert there[2] < 0.95


def test_the_window_weighs_its_center_most():
  flat = np.full((1, 11, 11, 1), 0.5)
  center, corner = flat.copy(), flat.copy()
  center[0, 5, 5], corner[0, 0, 0] = 0.8, 0.8
  assert similarity(flat, center) < 0.2 < 0.99 < similarity(flat, corner)


def test_gradients_are_finite_where_pictures_are_flat_or_opposed():
  a, _ = pictures(28, 28, 1)
  black, gray = np.zeros_like(a), np.full_like(a, 0.5)
  pairs = [(a, a), (a, 1 - a), (black, black), (black, a), (a, gray)]
  x, y = (jnp.float32(np.stack(v)) for v in zip(*pairs, strict=True))

  def run(x, y):
    values, pull_back = jax.vjp(ssim_vae.multiscale_ssim, x, y)
    return values, pull_back(jnp.ones(len(pairs)))

  values, slopes = linear.jit(run)(x, y)
  assert np.isfinite(values).all() and (values > 0).all()
  assert values[1] < 0.01
  assert np.isfinite(slopes).all() and np.abs(slopes).max() < 100
  # The two that are unlike, but not opposed, have a gradient.
  assert np.abs(slopes[1][3:]).max(axis=(1, 2, 3)).min() > 0


LOSS = functools.partial(
  ssim_vae.ssim_vae, weight=5.0, beta=0.5, schedule="linear", warmup_steps=10
)


def test_loss_is_dissimilarity_per_pixel_plus_rate(exact):
  params, batch = exact
  # Without noise in the code, the reconstruction is known.
  head = params["posterior"]["Dense_0"]
  head = {**head, "bias": head["bias"].at[2:].set(-60.0)}
  params = {**params, "posterior": {"Dense_0": head}}
  terms = linear.values_of(LOSS, params, batch.replace(step=jnp.int32(5)))
  z, _ = linear.code_of(params, batch.image)
  dense = jax.tree.map(np.asarray, params["decoder"]["Dense_0"])
  mean = (z @ dense["kernel"] + dense["bias"]).reshape(8, *linear.SHAPE)
  expected = similarity(np.asarray(batch.image) / 255, mean)
  np.testing.assert_allclose(terms.extras["ms_ssim"], expected, atol=1e-4)
  rate = linear.kl_of(params, batch.image).sum(1)
  loss = 5 * math.prod(linear.SHAPE) * (1 - expected) + 0.25 * rate
  np.testing.assert_allclose(terms.loss, loss, rtol=1e-4)
  np.testing.assert_allclose(terms.rate, rate, rtol=1e-5)
  distortion = linear.distortion_of(params, z, batch.image)
  np.testing.assert_allclose(terms.distortion, distortion, rtol=1e-5)
