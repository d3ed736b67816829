"""Ground-truth factors of a data set that was drawn or rendered from them."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32, Shaped
from tensorflow_datasets.proto import tf_example_pb2

from vae_jax.data import errors

_CHUNK = 1000  # Records read at a time: they come with their images.


@dataclasses.dataclass(frozen=True)
class Factors:
  """The factors of the examples of a split, in the order of the split.

  Attributes:
    names: of the factors that vary, sorted.
    values: int32[n f], one column for each of `names`: the stored whole
      number, or the bin of a real one.
    dropped: names of the factors that have one value only in this split.
  """

  names: tuple[str, ...]
  values: Int32[np.ndarray, "n f"]
  dropped: tuple[str, ...]


def read(
  builder: tfds.core.DatasetBuilder, split: str, *, bins: int = 10
) -> Factors:
  """Reads the factors of a split; no image is decoded.

  Factors are the features `factors/<name>` (synthetic_faces), else the
  features `label_<name>` (dsprites, shapes3d, smallnorb).

  Args:
    builder: of `preparation.builder`.
    split: in the split language of tensorflow-datasets, as
      `datasets.split_strings` gives it; row i is example i of its source.
    bins: see `discretise`.

  Returns:
    The factors.

  Raises:
    DataError: the data set has no such features, or none of them varies.
  """
  stored = values(builder, split)
  columns = {name: discretise(v, bins=bins) for name, v in stored.items()}
  names = [name for name, v in columns.items() if np.any(v != v[0])]
  if not names:
    raise errors.DataError(
      f"no factor of {builder.info.full_name} varies within the split "
      f"{split!r}: choose a larger one"
    )
  return Factors(
    names=tuple(names),
    values=np.stack([columns[name] for name in names], axis=1),
    dropped=tuple(name for name in columns if name not in names),
  )


def values(
  builder: tfds.core.DatasetBuilder, split: str
) -> dict[str, Shaped[np.ndarray, " n"]]:
  """Reads the factors of a split as they are stored; no image is decoded.

  Args:
    builder: of `preparation.builder`.
    split: as for `read`.

  Returns:
    The value of each example, by the factor's name, sorted by it.

  Raises:
    DataError: the data set has no such features.
  """
  features = _select(builder)
  source = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  stored = {
    name: np.empty(len(source), feature.np_dtype)
    for name, (_, feature) in features.items()
  }
  for start in range(0, len(source), _CHUNK):
    indices = range(start, min(start + _CHUNK, len(source)))
    records = source.__getitems__(list(indices))
    for index, record in zip(indices, records, strict=True):
      example = tf_example_pb2.Example.FromString(record).features.feature
      for name, (key, _) in features.items():
        # Whole numbers and real ones lie in different lists of a record.
        value = example[key]
        kind = value.WhichOneof("kind")
        stored[name][index] = getattr(value, kind).value[0]
  return stored


def discretise(
  values: Shaped[np.ndarray, " n"], *, bins: int = 10
) -> Int32[np.ndarray, " n"]:
  """Turns a factor into classes.

  Args:
    values: whole numbers or bits, which stay what they are, or real numbers.
    bins: classes of a real factor, with equally many examples each as far as
      equal values allow; a factor of at most that many distinct values gets
      one class for each.

  Returns:
    The class of each example.
  """
  if values.dtype.kind in "iub":
    return values.astype(np.int32)
  distinct, positions = np.unique(values, return_inverse=True)
  if len(distinct) > bins:
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.quantile(values, inner)
    positions = np.searchsorted(edges, values, side="right")
  return positions.astype(np.int32)


def _select(builder: tfds.core.DatasetBuilder) -> dict[str, tuple[str, Any]]:
  """The (stored name, feature) of each factor by name, sorted by it."""
  features = dict(builder.info.features.items())
  group = features.get("factors")
  if isinstance(group, tfds.features.FeaturesDict):
    found = {name: (f"factors/{name}", f) for name, f in group.items()}
  else:
    found = {
      key.removeprefix("label_"): (key, feature)
      for key, feature in features.items()
      if key.startswith("label_")
    }
  found = {
    name: (key, feature)
    for name, (key, feature) in sorted(found.items())
    if feature.shape == () and np.dtype(feature.np_dtype).kind in "iubf"
  }
  if not found:
    raise errors.DataError(
      f"{builder.info.full_name} has no ground-truth factors, which are "
      "features named factors/NAME or label_NAME, as synthetic_faces, "
      "dsprites and shapes3d have them: choose another --config.data.name"
    )
  return found
