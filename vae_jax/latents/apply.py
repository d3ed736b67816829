"""Compiled functions of a trained model: encode, decode, sample.

Images are `uint8` [b h w c], codes are tuples of groups [b d]. A conditional
model reads the labels of the images from the collection in `variables` that
`models.side_inputs` returns.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int32, Key, UInt8

from vae_jax import distributions, models
from vae_jax.data import binarize
from vae_jax.distributions import pixels

_DRAWS = 256  # Of a posterior whose deviation has no closed form.

Codes = tuple[Float[Array, "b _"], ...]
Images = UInt8[Array, "b h w c"] | UInt8[np.ndarray, "b h w c"]


@functools.partial(jax.jit, static_argnums=0)
def encode(vae: models.Vae, variables: Any, image: Images) -> Codes:
  """Returns posterior means, which are deterministic."""
  return nn.apply(lambda vae: vae.encode(image).mean, vae)(variables)


@functools.partial(jax.jit, static_argnums=0)
def encode_draw(
  vae: models.Vae,
  variables: Any,
  image: Images,
  index: Int32[Array, " b"] | Int32[np.ndarray, " b"],
  seed: int | jax.Array,
) -> Codes:
  """Returns a draw from the posterior of each image, which depends on the
  image, its index and the seed alone."""
  key = _keys(seed, index)
  return nn.apply(lambda vae: vae.encode(image).sample(key), vae)(variables)


@functools.partial(jax.jit, static_argnums=0)
def encode_deviation(
  vae: models.Vae,
  variables: Any,
  image: Images,
  index: Int32[Array, " b"] | Int32[np.ndarray, " b"],
  seed: int | jax.Array,
) -> Codes:
  """Returns the standard deviations of the posteriors; see `deviation`."""
  key = _keys(seed, index)
  return nn.apply(lambda vae: deviation(vae.encode(image), key), vae)(variables)


def deviation(posterior: distributions.Groups, key: Key[Array, " b"]) -> Codes:
  """Returns the standard deviation of each latent, 0 for a point.

  They are exp(log_variance / 2) of normal posteriors, and estimates from 256
  draws, within some 5% where these are about normal, of others; only these
  read the keys.
  """

  def of_group(group: Any) -> Float[Array, "b _"]:
    if isinstance(group, distributions.Deterministic):
      return jnp.zeros_like(group.mean)
    if hasattr(group, "log_variance"):
      return jnp.exp(0.5 * group.log_variance)

    def add(i: Any, sums: tuple) -> tuple:
      z = group.sample(jax.vmap(lambda k: jax.random.fold_in(k, i))(key))
      z -= group.mean
      return sums[0] + z, sums[1] + z**2

    zero = jnp.zeros_like(group.mean)
    total, square = lax.fori_loop(0, _DRAWS, add, (zero, zero))
    variance = (square - total**2 / _DRAWS) / (_DRAWS - 1)
    return jnp.sqrt(jnp.maximum(variance, 0))

  return tuple(map(of_group, posterior.groups))


@functools.partial(jax.jit, static_argnums=0)
def decode(
  vae: models.Vae, variables: Any, codes: Codes
) -> UInt8[Array, "b h w c"]:
  """Returns the means of the likelihood as images."""
  mean = nn.apply(lambda vae: vae.decode(codes).mean, vae)(variables)
  return pixels.to_uint8(mean)


@functools.partial(jax.jit, static_argnums=0)
def sample(
  vae: models.Vae,
  variables: Any,
  index: Int32[Array, " b"] | Int32[np.ndarray, " b"],
  seed: int | jax.Array,
  temperature: float | jax.Array,
) -> UInt8[Array, "b h w c"]:
  """Returns decoded draws from the prior, whose standard deviation is
  multiplied by the temperature. Draw i depends on the seed and i alone."""
  key = _keys(seed, index)

  def run(vae: models.Vae) -> Float[Array, "b h w c"]:
    codes = vae.prior().sample(key, temperature=temperature)
    return vae.decode(codes).mean

  return pixels.to_uint8(nn.apply(run, vae)(variables))


@functools.partial(jax.jit, static_argnums=0)
def draw_codes(
  vae: models.Vae,
  variables: Any,
  index: Int32[Array, " b"] | Int32[np.ndarray, " b"],
  seed: int | jax.Array,
  temperature: float | jax.Array,
) -> Codes:
  """Returns the codes of the draws of `sample`."""
  key = _keys(seed, index)
  return nn.apply(
    lambda vae: vae.prior().sample(key, temperature=temperature), vae
  )(variables)


@functools.partial(jax.jit, static_argnames=("mode",))
def as_model_input(
  image: Images, index: Any, seed: int | jax.Array, *, mode: str
) -> UInt8[Array, "b h w c"]:
  """Returns images as the model's input: binarized if `mode` asks for it."""
  return binarize.binarize(image, index, _keys(seed, index), mode=mode)


def _keys(seed: int | jax.Array, index: Any) -> jax.Array:
  root = jax.random.key(seed)
  return jax.vmap(lambda i: jax.random.fold_in(root, i))(index)
