"""Ground-truth factors of drawn or rendered data sets."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int32, Shaped

from vae_jax.data import errors, records

CHUNK = 1000  # Records per read, which include their images.


@dataclasses.dataclass(frozen=True)
class Factors:
  """The factors that vary in a split, sorted by name, with a class for each
  example in the order of the split; `dropped` are constant in this split."""

  names: tuple[str, ...]
  values: Int32[np.ndarray, "n f"]
  dropped: tuple[str, ...]


def read(
  builder: tfds.core.DatasetBuilder, split: str, *, bins: int = 10
) -> Factors:
  """Reads the factors of a split, as classes of `discretize`.

  Raises:
    DataError: the data set has no such features, or none of them varies.
  """
  stored = values(builder, split)
  columns = {name: discretize(v, bins=bins) for name, v in stored.items()}
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
  """Reads the stored factors of a split, without decoding images.

  Factors are the features `factors/<name>` (synthetic_faces), else the
  features `label_<name>` (dsprites, shapes3d, smallnorb).

  Args:
    builder: of `preparation.builder`.
    split: as returned by `datasets.split_strings`; row i is example i of its
      source.

  Returns:
    The value of each example by the factor's name, sorted by name.

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
  for start in range(0, len(source), CHUNK):
    indices = list(range(start, min(start + CHUNK, len(source))))
    for index, record in zip(
      indices, source.__getitems__(indices), strict=True
    ):
      example = records.parse(record)
      for name, (key, _) in features.items():
        # Integers and real numbers are in different lists of a record.
        value = example[key]
        kind = value.WhichOneof("kind")
        stored[name][index] = getattr(value, kind).value[0]
  return stored


def discretize(
  values: Shaped[np.ndarray, " n"], *, bins: int = 10
) -> Int32[np.ndarray, " n"]:
  """Returns the class of each value of a factor.

  An integer or bit is its own class. Real numbers fall into `bins` classes with
  equal numbers of examples as far as ties allow; a factor with at most so many
  distinct values has one class for each of them.
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
  """Returns (stored name, feature) of each factor by name, sorted by name."""
  features = dict(builder.info.features.items())
  group = features.get("factors")
  if isinstance(group, tfds.features.FeaturesDict):
    factors = {name: (f"factors/{name}", f) for name, f in group.items()}
  else:
    factors = {
      key.removeprefix("label_"): (key, feature)
      for key, feature in features.items()
      if key.startswith("label_")
    }
  factors = {
    name: factors[name]
    for name in sorted(factors)
    if records.is_number(factors[name][1], "iubf")
  }
  if not factors:
    raise errors.DataError(
      f"{builder.info.full_name} has no ground-truth factors (features named "
      "factors/NAME or label_NAME), unlike synthetic_faces, dsprites and "
      "shapes3d: choose another --config.data.name"
    )
  return factors
