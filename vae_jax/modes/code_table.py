"""Codes as a CSV table: one row per image."""

from collections.abc import Mapping

import numpy as np

from vae_jax.latents.trained_model import TrainedModel
from vae_jax.runtime import storage


def label_columns(
  labels: np.ndarray | None, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """Returns columns of labels: the class by name, or one for each attribute.

  A class that a data set withholds (-1) has no name.
  """
  if labels is None:
    return {}
  if labels.ndim == 1:
    words = [names[i] if 0 <= i < len(names) else "" for i in labels]
    return {"label": np.array(words)}
  return dict(zip(names, labels.T, strict=True))


def write(
  path: storage.Path, model: TrainedModel, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes names, labels, means (z0, ...) and deviations (s0, ...).

  Args:
    path: of the file.
    model: whose data set names the labels.
    arrays: names [n], codes [n d], deviations [n d] and perhaps labels.
  """
  labels = arrays.get("labels")
  known = names_of(model, labels)
  columns = {"name": arrays["names"], **label_columns(labels, known)}
  for head, name in (("z", "codes"), ("s", "deviations")):
    columns |= {f"{head}{i}": v for i, v in enumerate(arrays[name].T)}
  storage.write_table(path, columns)


def image_names(model: TrainedModel, split: str) -> tuple[str, ...]:
  """Returns the names of a split's images: paths of files, or positions."""
  # Not of the cache, which has none.
  source = getattr(model.experiment.splits, split)
  names = getattr(source, "names", None)
  return names or tuple(f"{split} {i}" for i in range(len(source)))


def names_of(model: TrainedModel, labels: np.ndarray | None) -> tuple[str, ...]:
  """Returns the names of classes or attributes; numbers if they have none."""
  if labels is None:
    return ()
  count = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
  names = model.experiment.splits.label_names
  return tuple(names or map(str, range(count)))
