"""What every objective returns."""

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Terms:
  """Per-example values in nats; the step averages them over the batch.

  Attributes:
    loss: what is minimised.
    distortion: -log p(x | z), with its normaliser.
    rate: KL(q(z | x) || p(z)) summed over groups of latents, never scaled or
      clamped; None where the code has no density. distortion + rate is
      logged as neg_elbo, whatever the loss is.
    extras: further values to log, by name.
  """

  loss: Float[Array, " b"]
  distortion: Float[Array, " b"]
  rate: Float[Array, " b"] | None = None
  extras: dict[str, Float[Array, " b"]] = struct.field(default_factory=dict)
