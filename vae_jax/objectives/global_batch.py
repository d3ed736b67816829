"""The global batch, for losses with a statistic of it.

A total correlation or an MMD over one device's part of the batch would depend
on the number of devices. Gradients flow through the gathering: with the same
statistic on every device as each example's loss, the step's mean gives it
weight 1 and the gradient of one device alone.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from vae_jax.data.batch import Batch
from vae_jax.runtime import devices


def gather(batch: Batch, values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns all devices' values [n ...] and mask [n], n the global batch.

  Values [b ...] under a False mask are padding and must not count; they are
  zeros here, so that no infinity among them spoils a weighted sum.
  """
  values, mask = devices.all_gather((values, batch.mask))
  shape = mask.shape + (1,) * (values.ndim - 1)
  return jnp.where(mask.reshape(shape), values, 0), mask


def positions(batch: Batch) -> Int[Array, " b"]:
  """Returns the place of this device's examples in the global batch."""
  count = len(batch.mask)
  return lax.axis_index(devices.AXIS) * count + jnp.arange(count)


def mean(
  values: Float[Array, "n ..."], mask: Bool[Array, " n"]
) -> Float[Array, "..."]:
  """Returns the mean of gathered values over the examples that count."""
  weight = mask.astype(jnp.float32)
  total = jnp.tensordot(weight, values, axes=1)
  return total / jnp.maximum(weight.sum(), 1)


def key(batch: Batch) -> Key[Array, ""]:
  """Returns the first example's key, the same on every device.

  For numbers that are drawn once for the global batch. Fold in a `Stream`, so
  that they differ from the draws for that example.
  """
  data = devices.all_gather(jax.random.key_data(batch.key[:1]))[0]
  return jax.random.wrap_key_data(data, impl=jax.random.key_impl(batch.key))
