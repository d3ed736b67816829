"""Random access to the images and labels in ArrayRecord files."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Integer
from tensorflow_datasets.proto import tf_example_pb2

from vae_jax.data import errors, photos
from vae_jax.data.transform import Transform

# Fewer images are decoded sooner than a thread starts.
_MIN_PER_THREAD = 16
_ENDS = 1 << 16  # Bytes at each end of a file that are hashed.


_Feature = tfds.features.FeatureConnector
_Features = Mapping[str, _Feature]
# Stored features of a record by name, of a class that is generated at import.
_Example = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Label:
  """The features of a record that are its label.

  Attributes:
    path: of the feature in the data set, such as `attributes/Smiling`.
    keys: the stored features of the label, in order.
    names: of the classes of a scalar or of the entries of a vector; None if
      they have no names.
    shape: () for a class id, (k,) for a vector of attributes.
    dtype: int32, or uint8 for a vector of bits.
  """

  path: str
  keys: tuple[str, ...]
  names: tuple[str, ...] | None
  shape: tuple[int, ...]
  dtype: np.dtype


def select_label(features: _Features, path: str) -> Label | None:
  """Chooses the label of a data set.

  Args:
    features: the features of the data set, by name.
    path: a feature path such as `attributes/Smiling`; "" = the class id
      `label`, else the vector of all `attributes`, else none.

  Returns:
    The label, or None.

  Raises:
    DataError: there is no such feature, or it is neither integers nor bits.
  """
  if not path:
    if isinstance(features.get("label"), tfds.features.ClassLabel):
      path = "label"
    elif isinstance(features.get("attributes"), tfds.features.FeaturesDict):
      path = "attributes"
    else:
      return None
  flat = _flatten(features)
  # By name, because the order of features is not stored; it is CelebA's order.
  keys = sorted(
    key for key in flat if key == path or key.startswith(path + "/")
  )
  usable = sorted(k for k, f in flat.items() if is_number(f))
  usable += sorted({key.rpartition("/")[0] for key in usable} - {""})
  if not keys or not all(is_number(flat[key]) for key in keys):
    raise errors.DataError(
      f"--config.data.label={path!r} is not a feature of integers or bits in "
      f"this data set{errors.suggest(path, usable)}"
    )
  bits = all(flat[key].np_dtype == np.bool_ for key in keys)
  if keys != [path]:
    names = tuple(key.removeprefix(path + "/") for key in keys)
    dtype = np.dtype(np.uint8 if bits else np.int32)
    return Label(path, tuple(keys), names, (len(keys),), dtype)
  feature, end = flat[path], path.rpartition("/")[2]
  if isinstance(feature, tfds.features.ClassLabel):
    names = tuple(feature.names)
  else:
    names = (f"not {end}", end) if bits else None
  return Label(path, (path,), names, (), np.dtype(np.int32))


def _flatten(features: _Features) -> dict[str, _Feature]:
  """Returns the features by the path under which a record stores them."""
  flat = {}
  for name, feature in features.items():
    if isinstance(feature, tfds.features.FeaturesDict):
      inner = _flatten(dict(feature.items()))
      flat.update({f"{name}/{key}": value for key, value in inner.items()})
    else:
      flat[name] = feature
  return flat


def is_number(feature: _Feature, kinds: str = "iub") -> bool:
  """Returns whether a feature is one number, by default an integer or bit."""
  return feature.shape == () and np.dtype(feature.np_dtype).kind in kinds


class RecordSource:
  """Decoded images and labels of one split, by position; see `Source`.

  Records are parsed here, because the parser of tensorflow-datasets takes ten
  times as long for a CelebA record, whose 51 other features it decodes one by
  one.
  """

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    transform: Transform,
    label: Label | None,
    num_threads: int,
  ):
    self._records = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    self._feature = builder.info.features["image"]
    self._transform = transform
    self._label = label
    self._num_threads = num_threads
    self._name = f"{builder.info.full_name} {split}"
    self.label_shape = label.shape if label else None
    self.image_shape = transform.shape(self._feature.shape)
    if None in self.image_shape:
      self.image_shape = self._image(parse(self._records[0]), 0).shape
    self.fingerprint = {
      "dataset": builder.info.full_name,
      "files": _files_digest(builder, split),
      "label": label.path if label else None,
      # JPEG leaves the rounding open, which differs between releases.
      "decoder": f"opencv {cv2.__version__}",
      **transform.fingerprint(),
    }

  def __len__(self) -> int:
    return len(self._records)

  def fetch(
    self, indices: Integer[np.ndarray, " n"]
  ) -> dict[str, Integer[np.ndarray, "n ..."]]:
    """Reads and decodes examples; see `Source.fetch`.

    Raises:
      DataError: an image cannot be decoded, or has another shape.
    """
    n, label = len(indices), self._label
    batch = {"image": np.empty((n, *self.image_shape), np.uint8)}
    if label:
      batch["label"] = np.empty((n, *label.shape), label.dtype)
    stored = self._records.__getitems__(indices.tolist())

    def fill(start: int, end: int) -> None:
      for row in range(start, end):
        index = int(indices[row])
        example = parse(stored[row])
        image = self._image(example, index)
        if image.shape != self.image_shape:
          raise errors.DataError(
            f"image {index} of {self._name} is {image.shape}, the first one "
            f"{self.image_shape}: make them equal with --config.data.crop or "
            "--config.data.resize"
          )
        batch["image"][row] = image
        if label:
          values = [example[key].int64_list.value[0] for key in label.keys]
          values = values if label.shape else values[0]
          try:
            batch["label"][row] = values
          except OverflowError as error:
            raise errors.DataError(
              f"the label of example {index} of {self._name} is {values}; "
              "labels must lie below 2**31"
            ) from error

    spread(fill, n, self._num_threads)
    return batch

  def _image(self, example: _Example, index: int) -> np.ndarray:
    """Decodes and transforms the image of a record."""
    content, name = (
      example["image"].bytes_list.value[0],
      f"image {index} of {self._name}",
    )
    try:
      if photos.is_turned(content):
        image = photos.decode(content, name)
      else:
        image = self._feature.decode_example_np(content)
    except (AttributeError, IndexError, cv2.error, errors.DataError) as error:
      # Errors that OpenCV's empty result causes.
      raise errors.DataError(
        f"{name} cannot be decoded: its file is damaged, prepare the data set "
        "again"
      ) from error
    # TFDS would keep the low byte alone.
    if self._feature.np_dtype == np.uint8 and photos.png_depth(content) == 16:
      raise errors.DataError(
        f"{name} has 16 bits per channel, but its feature has 8: prepare the "
        "data set with the dtype uint16"
      )
    return self._transform(image)


def spread(fill: Callable[[int, int], None], n: int, num_threads: int) -> None:
  """Calls fill(start, end) for parts of range(n), in threads if that is worth
  it."""
  threads = min(num_threads, n // _MIN_PER_THREAD)
  if threads < 2:
    fill(0, n)
    return
  # Threads, because decoding releases Python's lock. A pool that outlives the
  # call could neither be pickled nor survive a fork.
  edges = np.linspace(0, n, threads + 1).astype(int).tolist()
  with futures.ThreadPoolExecutor(threads) as pool:
    list(pool.map(fill, edges[:-1], edges[1:]))


def parse(record: bytes) -> _Example:
  """Returns the stored features of a record."""
  return tf_example_pb2.Example.FromString(record).features.feature


def _files_digest(builder: tfds.core.DatasetBuilder, split: str) -> str:
  """Returns a hash of the records and files that a split reads.

  Of each file, size, first and last bytes are hashed, because reading all of
  it would take too long at each start.
  """
  folder = pathlib.Path(builder.data_dir)
  digest = hashlib.sha256()
  for name in ("dataset_info.json", "features.json"):
    digest.update((folder / name).read_bytes())
  for part in builder.info.splits[split].file_instructions:
    path = pathlib.Path(part.filename)
    size = path.stat().st_size
    digest.update(f"{path.name} {size} {part.skip} {part.take}\n".encode())
    with path.open("rb") as file:
      digest.update(file.read(_ENDS))
      file.seek(max(0, size - _ENDS))
      digest.update(file.read(_ENDS))
  return digest.hexdigest()
