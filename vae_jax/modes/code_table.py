"""Codes as a CSV table: one row per image."""

from collections.abc import Collection, Mapping

import numpy as np

from vae_jax.latents import conditions
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.runtime import storage


def label_columns(
  labels: np.ndarray | None, names: tuple[str, ...], taken: Collection[str]
) -> dict[str, np.ndarray]:
  """Returns columns of labels: the class by name, or one for each attribute.

  A class that a data set withholds (-1) has no name. An attribute with a name
  of `taken`, the other columns, gets the prefix "label.".
  """
  if labels is None:
    return {}
  if labels.ndim == 1:
    words = [names[i] if 0 <= i < len(names) else "" for i in labels]
    return {"label": np.array(words)}
  heads = [f"label.{name}" if name in taken else name for name in names]
  return dict(zip(heads, labels.T, strict=True))


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
  known = conditions.names_of(model.experiment, labels)
  numbers = {
    f"{head}{i}": values
    for head, name in (("z", "codes"), ("s", "deviations"))
    for i, values in enumerate(arrays[name].T)
  }
  columns = {"name": arrays["names"]}
  columns |= label_columns(labels, known, {*columns, *numbers})
  storage.write_table(path, columns | numbers)
