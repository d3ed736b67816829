"""What one does with a trained model: arrays in, arrays out.

Images are `uint8` [b h w c], codes are tuples of groups [b d]. A conditional
model reads the labels of the images from `variables`, where `models.given` puts
them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, Int32, UInt8

from vae_jax import models
from vae_jax.data import binarize

# Of the angle between two codes, below which there is no telling their plane.
_SMALL_SINE = 1e-6

Codes = tuple[Float[Array, "b _"], ...]
Images = UInt8[Array, "b h w c"] | UInt8[np.ndarray, "b h w c"]


def _to_uint8(image: Float[Array, "b h w c"]) -> UInt8[Array, "b h w c"]:
  return jnp.round(image * 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def encode(vae: models.Vae, variables: Any, image: Images) -> Codes:
  """Returns posterior means, which unlike samples are the same each time."""
  return nn.apply(lambda vae: vae.encode(image).mean, vae)(variables)


@functools.partial(jax.jit, static_argnums=0)
def decode(
  vae: models.Vae, variables: Any, codes: Codes
) -> UInt8[Array, "b h w c"]:
  """Returns the means of the likelihood as images."""
  mean = nn.apply(lambda vae: vae.decode(codes).mean, vae)(variables)
  return _to_uint8(mean)


def reconstruct(
  vae: models.Vae, variables: Any, image: Images
) -> UInt8[Array, "b h w c"]:
  """Returns decode(encode(image))."""
  return decode(vae, variables, encode(vae, variables, image))


@functools.partial(jax.jit, static_argnums=0)
def sample(
  vae: models.Vae,
  variables: Any,
  index: Int32[Array, " b"] | Int32[np.ndarray, " b"],
  seed: int | jax.Array,
  temperature: float | jax.Array,
) -> UInt8[Array, "b h w c"]:
  """Returns decoded draws from the prior.

  Draw i depends on the seed and i alone.

  Args:
    vae: the model.
    variables: its parameters and state.
    index: which draws.
    seed: of all of them.
    temperature: factor on the prior's standard deviation.
  """
  root = jax.random.key(seed)
  key = jax.vmap(lambda i: jax.random.fold_in(root, i))(index)

  def run(vae: models.Vae) -> Float[Array, "b h w c"]:
    codes = vae.prior().sample(key, temperature=temperature)
    return vae.decode(codes).mean

  return _to_uint8(nn.apply(run, vae)(variables))


@functools.partial(jax.jit, static_argnames=("mode",))
def as_model_input(
  image: Images,
  index: Any,
  seed: int | jax.Array,
  *,
  mode: str,
) -> UInt8[Array, "b h w c"]:
  """Returns images as the model is given them: binarised, if `mode` says so."""
  root = jax.random.key(seed)
  key = jax.vmap(lambda i: jax.random.fold_in(root, i))(index)
  return binarize.binarize(image, index, key, mode=mode)


def linear(
  a: Float[np.ndarray, " d"],
  b: Float[np.ndarray, " d"],
  t: Float[np.ndarray, " k"],
) -> Float32[np.ndarray, "k d"]:
  """Returns (1 - t) a + t b: codes on the line from a to b.

  Args:
    a: where t is 0, exactly.
    b: where t is 1, exactly.
    t: how far along each code is.
  """
  return _weighted(a, b, 1 - t, t)


def spherical(
  a: Float[np.ndarray, " d"],
  b: Float[np.ndarray, " d"],
  t: Float[np.ndarray, " k"],
) -> Float32[np.ndarray, "k d"]:
  """Returns codes on an arc from a to b, which passes the origin by.

  sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, w the angle between a and b.
  The weights are those of unit vectors, put on the codes as they are: codes of
  one length keep it, of two lengths change from one to the other. Where w is
  0 or pi, or a code is 0, there is no arc, or no single one, and the codes are
  those of `linear`.

  Args:
    a: where t is 0, exactly.
    b: where t is 1, exactly.
    t: how far along each code is.

  References:
    Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985;
    White, arXiv 1609.04468, section 2.1.
  """
  lengths = [np.linalg.norm(v.astype(np.float64)) for v in (a, b)]
  if min(lengths) == 0:
    return linear(a, b, t)
  one, other = a / lengths[0], b / lengths[1]
  # Exact for small angles too, of which a cosine says nothing.
  angle = 2 * np.arctan2(
    np.linalg.norm(one - other), np.linalg.norm(one + other)
  )
  if np.sin(angle) < _SMALL_SINE:
    return linear(a, b, t)
  t = t.astype(np.float64)
  first, last = np.sin((1 - t) * angle), np.sin(t * angle)
  return _weighted(a, b, first / np.sin(angle), last / np.sin(angle))


def _weighted(
  a: np.ndarray, b: np.ndarray, first: np.ndarray, last: np.ndarray
) -> Float32[np.ndarray, "k d"]:
  codes = np.outer(first, a.astype(np.float64))
  codes += np.outer(last, b.astype(np.float64))
  return codes.astype(np.float32)


def grid(
  z1: Float[np.ndarray, " n"], z2: Float[np.ndarray, " m"]
) -> Float32[np.ndarray, "k 2"]:
  """Returns all pairs of two ascending lists, highest z2 first: row by row as
  in a picture, k = n m."""
  first, second = np.meshgrid(z1, z2[::-1])
  return np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)


def prior_quantiles(count: int) -> np.ndarray:
  """Returns `count` quantiles of N(0, 1), ascending.

  Quantiles (i + 1/2) / count, so that every cell of a grid of them stands for
  the same prior probability.

  References:
    Kingma and Welling, arXiv 1312.6114, appendix A.
  """
  probability = (np.arange(count) + 0.5) / count
  return np.asarray(jax.scipy.special.ndtri(probability))


def aggregate_quantiles(
  codes: Float[np.ndarray, "n d"], count: int
) -> Float[np.ndarray, "d count"]:
  """Returns `count` quantiles of each dimension of some codes, ascending: the
  same as `prior_quantiles`, where codes follow no known prior."""
  probability = (np.arange(count) + 0.5) / count
  return np.quantile(codes.astype(np.float64), probability, axis=0).T
