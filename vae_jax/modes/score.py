"""Scores single images by their loss terms, to <workdir>/score/."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import datasets, errors
from vae_jax.latents import given, scores, trained_model
from vae_jax.latents.trained_model import TrainedModel
from vae_jax.modes import arguments, code_table, evaluate_table, other_data
from vae_jax.runtime import storage
from vae_jax.training import memory

NEEDS = "run"
OTHER_DATA = True

_NORMAL = ("normal", "good")  # Names of classes that need no flag.


def run(
  config: ConfigDict,
  workdir: str,
  *,
  images: str | None = None,
  normal: str | None = None,
  label: str | None = None,
  attribute: str | None = None,
) -> str:
  """Scores each image of `config.eval.split`; returns means as a table.

  Writes `score/<split>.npz` and `.csv` (`score/images.*` with --images; in a
  folder of its own for other data), one row per image: name, index, label, the
  terms of the loss and, with `config.eval.importance_samples`, `nll`. The mean
  of a column is what `--mode=evaluate` prints.

  Where labels say which images are normal, the table has the AUROC of each
  score: the probability that an image that is not normal has a higher one than
  a normal image.

  Args:
    images: see `arguments`; None = all of the split.
    normal: classes, or an attribute, of normal images; None = the class named
      normal or good, if there is one.
    label: see `arguments.condition`, as attribute.
  """
  condition = arguments.condition(config, label, attribute)
  model = trained_model.open_run(config, workdir)
  if images is None and condition is not None:
    raise ConfigError(
      "--label and --attribute are for --images; those of a split have labels."
    )
  if images is None:
    source, name = model.experiment.source(config.eval.split), config.eval.split
    labels = None
    if source.label_shape is not None:
      labels = datasets.read_labels(source)
    names = code_table.image_names(model, name)
  else:
    chosen = arguments.images(model, images, "", chosen=condition)
    source = given.InMemory(chosen.image, chosen.label)
    names, labels, name = chosen.name, chosen.label, "images"
  known = code_table.names_of(model, labels)
  # Before the images are scored, which takes long.
  is_normal = _is_normal(model, labels, known, normal)
  with memory.explain_oom(config):
    terms = scores.of_images(
      model, source, samples=config.eval.importance_samples, progress=True
    )
  folder = other_data.folder(model, "score")
  arrays = {"name": np.array(names), "index": np.arange(len(source))}
  table = {**arrays, **code_table.label_columns(labels, known)}
  if labels is not None:
    arrays |= {"labels": labels, "label_names": np.array(known)}
  if is_normal is not None:
    arrays["normal"] = table["normal"] = is_normal.astype(np.int32)
  clash = sorted(set(table) & set(terms))
  if clash:
    raise ConfigError(
      f"The attributes {', '.join(clash)} are named as terms of the loss are."
    )
  storage.write_arrays(folder / f"{name}.npz", **arrays, **terms)
  storage.write_table(folder / f"{name}.csv", table | terms)
  text = evaluate_table.table(_summary(model, terms, is_normal))
  return f"{text}\n{folder / name}.csv"


def _is_normal(
  model: TrainedModel,
  labels: np.ndarray | None,
  names: tuple[str, ...],
  normal: str | None,
) -> Bool[np.ndarray, " n"] | None:
  """Returns whether each image is normal, None if labels do not say it.

  Raises:
    ConfigError: --normal names no class or attribute.
  """
  words = [n for n in names if n.lower() in _NORMAL][:1]
  if normal is not None:
    words = [word.strip() for word in normal.split(",")]
    if labels is None:
      raise ConfigError(
        f"--normal is {normal!r}, but the images have no labels."
      )
  if not words or labels is None:
    return None
  for word in words:
    if word not in names:
      raise ConfigError(
        f"--normal is {normal!r}: there is no label {word!r} in "
        f"{model.experiment.splits.name}"
        f"{errors.suggest(word, names, most=len(names))}."
      )
  positions = [names.index(word) for word in words]
  if labels.ndim == 1:
    return np.isin(labels, positions)
  return labels[:, positions].astype(bool).all(axis=1)


def _summary(
  model: TrainedModel,
  terms: Mapping[str, Float[np.ndarray, " n"]],
  normal: Bool[np.ndarray, " n"] | None,
) -> dict[str, Any]:
  """Returns the mean of each column, and its AUROC."""
  result = {k: float(np.mean(v, dtype=np.float64)) for k, v in terms.items()}
  result["num_examples"] = len(terms["loss"])
  result["data"] = model.experiment.splits.name
  trained_on = other_data.trained_on(model)
  if trained_on:
    result["trained_on"] = trained_on
  if normal is not None:
    result["num_normal"] = int(normal.sum())
    result["auroc"] = {k: scores.auroc(v, ~normal) for k, v in terms.items()}
  return result
