"""What happens to `uint8` images on the device before a model sees them."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Key, UInt8

# Apart from every key that a model draws from.
_BINARIZE = 0xB1
# The key of static binarisation does not follow the run's seed: it makes one
# fixed data set, the same for all runs.
_STATIC_SEED = 0


def binarize(
  image: UInt8[Array, "b h w c"],
  index: Int32[Array, " b"],
  key: Key[Array, " b"],
  *,
  mode: str,
) -> UInt8[Array, "b h w c"]:
  """Returns images of 0 and 255, drawn with probability image / 255.

  Each pixel is compared with 16 random bits; the probability is exact at 0
  and 255 and elsewhere within 1.6e-5 relative (257 v / 65536 for v / 255).

  Args:
    image: grey levels.
    index: position in the split, the source of "static" randomness.
    key: per-example keys, the source of "dynamic" randomness.
    mode: "none" returns the image; "static" draws each image once and for
      all; "dynamic" draws anew each time.

  References:
    Salakhutdinov and Murray, 2008 (arXiv has none; ICML), section 6; the
    dynamic form: Burda et al., arXiv 1509.00519, section 5.
  """
  if mode == "none":
    return image
  if mode == "static":
    static = jax.random.key(_STATIC_SEED)
    key = jax.vmap(lambda i: jax.random.fold_in(static, i))(index)

  def draw(key: Key[Array, ""], image: UInt8[Array, "h w c"]) -> Array:
    key = jax.random.fold_in(key, _BINARIZE)
    words = jax.random.bits(key, ((image.size + 1) // 2,), jnp.uint32)
    bits = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)
    bits = bits[: image.size].reshape(image.shape).astype(jnp.int32)
    level = image.astype(jnp.int32)
    return bits < 257 * level + (level == 255)

  return jax.vmap(draw)(key, image).astype(jnp.uint8) * 255
