"""Classifier and regressor of attributes and factors, used to score edits.

It is trained on images of a data set, never on the output of a model, so that
it is the same for all models.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Float32, UInt8
from scipy import special

from vae_jax.latents import coder
from vae_jax.models import blocks, encoders
from vae_jax.runtime import storage

_FEATURES = 256
_MAX_SIDE = 64  # Larger images are halved until they fit, pixels.
_CHUNK = 256  # Images per call of the network at most,
_FEWEST = 16  # and at least.
_META = "said"  # Name of the JSON text in the file.


class Network(nn.Module):
  """A convolutional network with one linear output per attribute and factor.

  The first convolution sees squares of 2x2 pixels as one: at full resolution
  it would take half of the time.
  """

  num_outputs: int
  channels: tuple[int, ...] = (64, 128, 256)

  @nn.compact
  def __call__(
    self, image: Float[Array, "b h w c"]
  ) -> tuple[Float[Array, "b k"], Float[Array, "b o"]]:
    """Returns features and outputs of images in [0, 1]."""
    x = image
    while max(x.shape[1:3]) > _MAX_SIDE:
      x = blocks.halve(x)
    x = encoders.Conv(channels=self.channels, batch_norm=False)(
      squares(x - 0.5)
    )
    features = nn.leaky_relu(nn.Dense(_FEATURES)(x))
    return features, nn.Dense(self.num_outputs)(features)


def squares(x: Float[Array, "b h w c"]) -> Float[Array, "b m n k"]:
  """Returns squares of 2x2 pixels as the channels of one, k = 4 c, after an
  odd last row or column is doubled."""
  b, h, w, c = x.shape
  x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
  m, n = -(-h // 2), -(-w // 2)
  x = x.reshape(b, m, 2, n, 2, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, m, n, 4 * c)


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
  """Output of the classifier for a batch of images."""

  probability: Float32[np.ndarray, "n a"]  # Of each attribute or class.
  factor: Float32[np.ndarray, "n f"]  # Each real factor, in its own unit.
  features: Float32[np.ndarray, "n k"]  # Of the last hidden layer.


@dataclasses.dataclass(frozen=True, eq=False)
class AttributeClassifier:
  """A trained classifier of attributes, or of classes, and real factors."""

  names: tuple[str, ...]  # Of the attributes, or of the classes.
  classes: bool  # Whether exactly one of them is true.
  factors: tuple[str, ...]  # Names of the real factors, sorted.
  # Mean and standard deviation, and quartiles, of each in the training split.
  scale: Float32[np.ndarray, "2 f"]
  quartiles: Float32[np.ndarray, "3 f"]
  # On the test split, by name: balanced accuracy of each attribute (of a class
  # against the rest) and R^2 of each factor.
  accuracy: dict[str, float]
  params: dict  # Of `Network`.
  channels: tuple[int, ...] = Network.channels

  def predict(self, image: UInt8[np.ndarray, "n h w c"]) -> Predictions:
    """Returns attributes, factors and features of images."""
    count = len(self.names)
    network = Network(count + len(self.factors), self.channels)
    chunks = []
    for begin in range(0, len(image), _CHUNK):
      chunk = image[begin : begin + _CHUNK]
      # Padded to a power of 2, because each shape is compiled anew.
      size = max(_FEWEST, 1 << (len(chunk) - 1).bit_length())
      padded = coder.padded(chunk, size)
      values = _apply(network, self.params, padded)
      chunks.append([np.asarray(v)[: len(chunk)] for v in values])
    features, outputs = map(np.concatenate, zip(*chunks, strict=True))
    logits, standardized = outputs[:, :count], outputs[:, count:]
    if self.classes:
      probability = special.softmax(logits, axis=1)
    else:
      probability = special.expit(logits)
    factor = standardized * self.scale[1] + self.scale[0]
    return Predictions(probability, factor, features)


@jax.jit(static_argnums=0)
def _apply(
  network: Network, params: dict, image: UInt8[Array, "b h w c"]
) -> tuple[Float[Array, "b k"], Float[Array, "b o"]]:
  return network.apply(params, image / jnp.float32(255))


def save(classifier: AttributeClassifier, path: storage.Path) -> None:
  """Writes a classifier to an `.npz` file, atomically."""
  flat = traverse_util.flatten_dict(classifier.params, sep="/")
  fields = ("names", "classes", "factors", "accuracy", "channels")
  meta = {name: getattr(classifier, name) for name in fields}
  storage.write_arrays(
    path,
    scale=classifier.scale,
    quartiles=classifier.quartiles,
    **{_META: np.array(json.dumps(meta))},
    **{f"params/{k}": v for k, v in flat.items()},
  )


def load(path: storage.Path) -> AttributeClassifier:
  """Reads a file of `save`, without pickle.

  Raises:
    ConfigError: the file is damaged or of another kind.
  """
  with storage.parsing(path, "delete it, and it is trained again"):
    arrays = storage.read_arrays(path)
    meta = json.loads(str(arrays.pop(_META)))
    meta |= {k: tuple(meta[k]) for k in ("names", "factors", "channels")}
    fields = traverse_util.unflatten_dict(arrays, sep="/")
    return AttributeClassifier(**fields, **meta)
