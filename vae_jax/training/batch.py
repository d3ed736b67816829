"""One device's part of a batch, with a key for each example.

Keys do not depend on the number of devices, so that no result does.
"""

import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from vae_jax.data import augment, binarize
from vae_jax.data.batch import Batch, Stream
from vae_jax.runtime import devices as parallel

Arrays = dict[str, jax.Array]  # by name


def train_batch(
  config: ConfigDict,
  data: Arrays,
  place: jax.Array,
  *,
  step: jax.Array,
  seed: jax.Array,
) -> tuple[Batch, jax.Array]:
  """Returns this device's part of a micro-batch, and its dropout key.

  `data` holds `image` [b h w c], `index` [b] and perhaps `label`; `place` is
  that of the micro-batch in its batch, from 0.
  """
  (local,) = data["index"].shape
  # Micro-batches divide the global batch before devices do, so that one holds
  # the same images however many devices share it.
  place = place * parallel.device_count() + lax.axis_index(parallel.AXIS)
  position = place * local + jnp.arange(local)
  key = _keys(seed, Stream.TRAIN, step, position)
  dropout_key = _keys(seed, Stream.DROPOUT, step, place[None])[0]
  batch = _batch(config, data, key, jnp.ones((local,), bool), step)
  # After binarization, so that a static one is of the same image.
  image = augment.augment(
    batch.image, key, flip=config.data.flip, shift=config.data.shift
  )
  return batch.replace(image=image), dropout_key


def eval_batch(
  config: ConfigDict, data: Arrays, seed: jax.Array, step: jax.Array | int = 0
) -> Batch:
  """Returns this device's part of a held-out batch.

  Keys, and with them binarization and all sampling, depend on the seed and
  the example's index alone: results do not depend on the number of devices,
  nor on the batch size unless the loss has a statistic of the batch.

  `data` holds `image` [b h w c], `index` [b], `mask` [b] and perhaps `label`;
  schedules inside the objective read `step`, the optimizer steps so far.
  """
  key = _keys(seed, Stream.EVALUATE, jnp.int32(0), data["index"])
  return _batch(config, data, key, data["mask"], jnp.int32(step))


def _batch(
  config: ConfigDict,
  data: Arrays,
  key: jax.Array,
  mask: jax.Array,
  step: jax.Array,
) -> Batch:
  image = binarize.binarize(
    data["image"], data["index"], key, mode=config.data.binarization
  )
  return Batch(image, data["index"], mask, key, data.get("label"), step)


def _keys(
  seed: jax.Array, stream: Stream, step: jax.Array, positions: jax.Array
) -> jax.Array:
  root = jax.random.fold_in(jax.random.key(seed), stream)
  step_key = jax.random.fold_in(root, step)
  return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(positions)
