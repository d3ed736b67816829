"""Compiled functions of a trained model: encode, decode, sample.

Images are `uint8` [b h w c], codes are tuples of groups [b d]. A conditional
model reads the labels of the images from the collection in `variables` that
`models.side_inputs` returns.
"""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int32, UInt8

from vae_jax import models
from vae_jax.data import binarize
from vae_jax.distributions import pixels

Codes = tuple[Float[Array, "b _"], ...]
Images = UInt8[Array, "b h w c"] | UInt8[np.ndarray, "b h w c"]


@functools.partial(jax.jit, static_argnums=0)
def encode(vae: models.Vae, variables: Any, image: Images) -> Codes:
  """Returns posterior means, which are deterministic."""
  return nn.apply(lambda vae: vae.encode(image).mean, vae)(variables)


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


@functools.partial(jax.jit, static_argnames=("mode",))
def as_model_input(
  image: Images, index: Any, seed: int | jax.Array, *, mode: str
) -> UInt8[Array, "b h w c"]:
  """Returns images as the model's input: binarized if `mode` asks for it."""
  return binarize.binarize(image, index, _keys(seed, index), mode=mode)


def _keys(seed: int | jax.Array, index: Any) -> jax.Array:
  root = jax.random.key(seed)
  return jax.vmap(lambda i: jax.random.fold_in(root, i))(index)
