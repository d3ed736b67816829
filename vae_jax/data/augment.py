"""Chance mirror images and shifts of training images, on the device."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key, UInt8

from vae_jax.data.batch import Stream


def augment(
  image: UInt8[Array, "b h w c"],
  key: Key[Array, " b"],
  *,
  flip: bool,
  shift: int,
) -> UInt8[Array, "b h w c"]:
  """Returns images changed by the key of each example.

  With `flip` a coin mirrors left and right. A `shift` moves by whole pixels,
  uniform in [-shift, shift] down and to the right; the edge is repeated.
  """

  def keys(stream: Stream) -> Key[Array, " b"]:
    return jax.vmap(lambda k: jax.random.fold_in(k, stream))(key)

  if flip:
    coin = jax.vmap(jax.random.bernoulli)(keys(Stream.FLIP))
    image = jnp.where(coin[:, None, None, None], image[:, :, ::-1], image)
  if shift:
    start = jax.vmap(lambda k: jax.random.randint(k, (2,), 0, 2 * shift + 1))(
      keys(Stream.SHIFT)
    )
    sides = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    size = image.shape[1:]
    image = jax.vmap(
      lambda x, at: lax.dynamic_slice(x, (at[0], at[1], 0), size)
    )(jnp.pad(image, sides, mode="edge"), start)
  return image
