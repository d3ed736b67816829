"""The rate and a structural similarity in place of the likelihood."""

import functools
from typing import Annotated

import dm_pix
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vae_jax import distributions, models
from vae_jax.data.batch import Batch
from vae_jax.objectives import base
from vae_jax.objectives.base import Kl, Terms, one_draw
from vae_jax.objectives.beta_vae import Schedule, kl_weight
from vae_jax.objectives.constraints import at_least, checked

# Weights of the scales from fine to coarse: Wang et al. 2003, section 3.2.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11  # pixels
_SIGMA = 1.5  # standard deviation of the Gaussian in the window, pixels
_K1 = 0.01
# With so large a K1 the luminance factor (2 m m' + c1) / (m^2 + m'^2 + c1) is
# 1 in float32 for means m in [0, 1]: contrast and structure remain.
_K1_WITHOUT_LUMINANCE = 1e4
# Powers below 1 have an infinite slope at 0 and are not real below it.
_FLOOR = 1e-3


@checked
def ssim_vae(
  vae: models.Vae,
  batch: Batch,
  *,
  weight: Annotated[float, at_least(0)] = 1.0,
  beta: Annotated[float, at_least(0)] = 1.0,
  schedule: Schedule = "constant",
  warmup_steps: Annotated[int, at_least(0)] = 0,
  cycles: Annotated[int, at_least(1)] = 4,
  kl: Kl = "auto",
) -> Terms:
  """weight * D * (1 - MS-SSIM(x, mean(z))) + beta(step) KL, one draw of z.

  D = height * width * channels, so that the first term grows with the image
  as a sum over pixels does, and weight and beta mean the same at every size.
  The likelihood gives the mean; its own scale is not learned by this loss.

  Args:
    weight: nats per pixel value of an image with nothing in common.
    beta, schedule, warmup_steps, cycles: see `beta_vae`.

  Returns:
    Extras: ms_ssim, 1 for equal images.

  References:
    Snell et al., arXiv 1511.06409; `multiscale_ssim`.
  """
  base.check_all_levels("ssim_vae", vae)
  draw = one_draw(vae, batch, kl=kl)
  x = distributions.unit_pixels(batch.image)
  similarity = multiscale_ssim(x, draw.likelihood.mean)
  dissimilarity = x[0].size * (1 - similarity)
  rate_weight = kl_weight(batch.step, beta, schedule, warmup_steps, cycles)
  loss = weight * dissimilarity + rate_weight * draw.rate
  return base.terms(draw, loss, ms_ssim=similarity)


def multiscale_ssim(
  a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
  """Returns the MS-SSIM of pairs of images in [0, 1]: 1 = equal.

  prod_{s < S} (cs_s)^{w_s} * (l_S cs_S)^{w_S}, cs = contrast times structure
  and l = luminance, each a mean over the places of an 11 x 11 Gaussian
  window, at scales halved by averaging 2 x 2 pixels. There are as many scales
  as leave the image as large as the window, 5 at most (64 x 64 has 3, 28 x 28
  has 2), and their published weights are divided by their sum. The window of
  an image of less than 11 pixels is the image's shorter side. Negative
  factors count as 0.001. Each channel is compared by itself, and their mean
  returned.

  References:
    Wang, Simoncelli and Bovik, Asilomar 2003, equation 7.
  """
  count, h, w, channels = a.shape
  window = min(_WINDOW, h, w)
  weights = [
    v for s, v in enumerate(_WEIGHTS) if min(h, w) >> s >= window or s == 0
  ]
  a, b = (
    jnp.moveaxis(v, 3, 1).reshape(count * channels, h, w, 1) for v in (a, b)
  )
  product = jnp.ones(count * channels)
  for scale, weight in enumerate(weights):
    last = scale == len(weights) - 1
    similarity = dm_pix.ssim(
      a,
      b,
      k1=_K1 if last else _K1_WITHOUT_LUMINANCE,
      filter_fn=functools.partial(_blur, window=window),
    )
    power = weight / sum(weights)
    product = product * jnp.maximum(similarity, _FLOOR) ** power
    a, b = _halve(a), _halve(b)
  return product.reshape(count, channels).mean(axis=1)


def _blur(x: Float[Array, "n h w 1"], window: int) -> Float[Array, "n m k 1"]:
  """Returns the weighted mean of each place where the window fits."""
  # Matrix products, because on a CPU they are, gradient included, 12 to 35
  # times as fast as the convolutions of dm_pix. Variances are small
  # differences of these means, hence the precision.
  return jnp.einsum(
    "mh,nhwc,kw->nmkc",
    _bands(x.shape[1], window),
    x,
    _bands(x.shape[2], window),
    precision=lax.Precision.HIGHEST,
  )


def _bands(size: int, window: int) -> np.ndarray:
  place = np.arange(size)[None] - np.arange(size - window + 1)[:, None]
  from_center = (place - (window - 1) / 2) / _SIGMA
  weights = np.exp(-0.5 * from_center**2) * (place >= 0) * (place < window)
  return np.float32(weights / weights.sum(axis=1, keepdims=True))


def _halve(x: Float[Array, "n h w 1"]) -> Float[Array, "n m k 1"]:
  count, h, w, _ = x.shape
  h, w = h // 2, w // 2
  pairs = x[:, : 2 * h, : 2 * w].reshape(count, h, 2, w, 2, 1)
  return pairs.mean(axis=(2, 4))
