"""A network that reads attributes and factors off a picture.

It judges edits: whether the picture shows what was asked for, and what else
has changed. It is trained on the images of a data set alone, never on what a
model makes of them, so that it is the same judge for all models.
"""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Float32, UInt8
from scipy import special

from vae_jax.latents import trained_model
from vae_jax.models import blocks, encoders
from vae_jax.runtime import storage

_FEATURES = 256
_CHANNELS = (32, 64, 128, 256)
_LARGEST = 64  # Side of the images it looks at, at most, pixels.
_CHUNK = 256  # Images read at a time.


class Network(nn.Module):
  """Convolutions, features, and a line for each thing to read.

  Attributes:
    outputs: numbers to read.
  """

  outputs: int

  @nn.compact
  def __call__(
    self, image: Float[Array, "b h w c"]
  ) -> tuple[Float[Array, "b k"], Float[Array, "b o"]]:
    """Returns features and what is read from them, of images in [0, 1]."""
    x = image
    while max(x.shape[1:3]) > _LARGEST:
      x = blocks.halve(x)
    x = encoders.Conv(channels=_CHANNELS, batch_norm=False)(x - 0.5)
    features = nn.leaky_relu(nn.Dense(_FEATURES)(x))
    return features, nn.Dense(self.outputs)(features)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
  """What the judge sees in pictures.

  Attributes:
    probability: of each attribute, or of each class, [n a].
    factor: value of each real factor, in its own unit, [n f].
    features: of the whole picture, [n k].
  """

  probability: Float32[np.ndarray, "n a"]
  factor: Float32[np.ndarray, "n f"]
  features: Float32[np.ndarray, "n k"]


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """A trained judge.

  Attributes:
    names: of the attributes, or of the classes.
    classes: whether exactly one of them is true.
    factors: names of the real factors, sorted; () where there are none.
    scale: mean and standard deviation of each in the training split, [2 f].
    quartiles: of each in the training split, [3 f].
    accuracy: on the test split: balanced accuracy of each attribute (of a
      class against the rest), and R^2 of each factor, by name.
    params: of `Network`.
  """

  names: tuple[str, ...]
  classes: bool
  factors: tuple[str, ...]
  scale: Float32[np.ndarray, "2 f"]
  quartiles: Float32[np.ndarray, "3 f"]
  accuracy: dict[str, float]
  params: Any

  def read(self, image: UInt8[np.ndarray, "n h w c"]) -> Reading:
    """Reads pictures."""
    features, outputs = _apply(self.params, self._outputs, image)
    logits = outputs[:, : len(self.names)]
    if self.classes:
      probability = special.softmax(logits, axis=1)
    else:
      probability = special.expit(logits)
    factor = outputs[:, len(self.names) :] * self.scale[1] + self.scale[0]
    return Reading(probability, factor, features)

  @property
  def _outputs(self) -> int:
    return len(self.names) + len(self.factors)


def _apply(
  params: Any, outputs: int, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  parts = []
  for begin in range(0, len(image), _CHUNK):
    part = image[begin : begin + _CHUNK]
    # One shape only is compiled.
    made = _network(params, trained_model.padded(part, _CHUNK), outputs)
    parts.append([np.asarray(v)[: len(part)] for v in made])
  features, read = zip(*parts, strict=True)
  return np.concatenate(features), np.concatenate(read)


@jax.jit(static_argnums=2)
def _network(
  params: Any, image: UInt8[Array, "b h w c"], outputs: int
) -> tuple[jax.Array, jax.Array]:
  return Network(outputs).apply(params, image / jnp.float32(255))


def save(judge: Judge, path: storage.Path) -> None:
  """Writes a judge to an `.npz` file, whole or not at all."""
  flat = traverse_util.flatten_dict(judge.params, sep="/")
  said = {
    "names": judge.names,
    "classes": judge.classes,
    "factors": judge.factors,
    "accuracy": judge.accuracy,
  }
  storage.write_arrays(
    path,
    said=np.array(json.dumps(said)),
    scale=judge.scale,
    quartiles=judge.quartiles,
    **{f"params/{k}": v for k, v in flat.items()},
  )


def load(path: storage.Path) -> Judge:
  """Reads what `save` wrote; needs no pickle."""
  values = storage.read_arrays(path)
  said = json.loads(str(values["said"]))
  flat = {
    k.removeprefix("params/"): v
    for k, v in values.items()
    if k.startswith("params/")
  }
  return Judge(
    names=tuple(said["names"]),
    classes=said["classes"],
    factors=tuple(said["factors"]),
    scale=values["scale"],
    quartiles=values["quartiles"],
    accuracy=said["accuracy"],
    params=traverse_util.unflatten_dict(flat, sep="/"),
  )
