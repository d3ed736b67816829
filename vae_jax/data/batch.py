"""The batch that an objective receives, and the streams of randomness."""

import enum
from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int32, Key, UInt8


@enum.unique
class Stream(enum.IntEnum):
  """Numbers folded into PRNG keys, so that no two draws share a key.

  The values are part of every run's numbers: they never change.
  """

  # Folded into the run's key.
  TRAIN = 0x7A
  EVALUATE = 0xE0
  DROPOUT = 0xD0
  INIT = 0x1417
  # Folded into an example's key.
  BINARIZE = 0xB1
  DEQUANTIZE = 0xDE
  WEIGHTED_DRAWS = 0x1A
  CORRUPTION = 0xC0
  JACOBIAN_SIGNS = 0xD1
  PERMUTATIONS = 0xC01
  PRIOR = 0x9B
  WAE_GAN_PRIOR = 0x9A1
  VAE_GAN_PRIOR = 0x9A2
  PROJECTIONS = 0x5D
  FLIP = 0xF1
  SHIFT = 0x5F


@struct.dataclass
class Batch:
  """One device's part of a batch.

  Attributes:
    image: pixels, 0 to 255; 0 and 255 only where images are binarized.
    index: position of each image in its split.
    mask: False for padding, which must not count.
    key: one PRNG key per example, a function of (seed, step, position in the
      global batch) in training and of (seed, index) in evaluation. All
      randomness in an objective comes from it, so that a run does not depend
      on the number of devices that share the batch.
    label: class ids [b], or attributes [b a]; None where there are none.
    step: optimizer steps so far, for schedules inside an objective.
  """

  image: UInt8[Array, "b h w c"]
  index: Int32[Array, " b"]
  mask: Bool[Array, " b"]
  key: Key[Array, " b"]
  label: Any = None
  step: Int32[Array, ""] = struct.field(
    default_factory=lambda: jnp.zeros((), jnp.int32)
  )
