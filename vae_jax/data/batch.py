"""What every objective is given: one device's part of a batch of images."""

from typing import Any

from flax import struct
from jaxtyping import Array, Bool, Int32, Key, UInt8


@struct.dataclass
class Batch:
  """One device's part of a batch.

  Attributes:
    image: pixels, 0 to 255; 0 and 255 only where images are binarised.
    index: position of each image in its split.
    mask: False for padding, which must not count.
    key: one PRNG key per example, a function of (seed, step, position in the
      global batch) in training and of (seed, index) in evaluation. Whatever
      is random in an objective comes from it, so that a run does not depend
      on how many devices share the batch.
    label: class ids [b], or attributes [b a]; None where there are none.
  """

  image: UInt8[Array, "b h w c"]
  index: Int32[Array, " b"]
  mask: Bool[Array, " b"]
  key: Key[Array, " b"]
  label: Any = None
