"""Scores single images by their loss terms, to <workdir>/score/."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from vae_jax.config import ConfigError
from vae_jax.data import datasets, errors
from vae_jax.latents import conditions, given, scores, trained_model
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

  The table has the AUROC of each score, the probability that an image that is
  not normal has a higher one than a normal image, where labels say which are
  normal. Other data without such labels are not normal, and the images that
  the run has scored of its own data are: `score/<split>.npz`, with the same
  checkpoint and settings.

  Args:
    images: see `arguments`; None = all of the split.
    normal: classes, or an attribute, of normal images; None = the class named
      normal or good, if there is one.
    label: see `arguments.condition`, as attribute.
  """
  condition = arguments.condition(config, label, attribute)
  model = trained_model.open_run(config, workdir)
  chosen = _choose(model, images, condition)
  known = conditions.names_of(model.experiment, chosen.labels)
  # Before the images are scored, which takes long.
  is_normal = _is_normal(model, chosen.labels, known, normal)
  samples = config.eval.importance_samples
  with memory.explain_oom(config):
    terms = scores.of_images(
      model, chosen.source, samples=samples, progress=True
    )
  count = len(chosen.source)
  arrays = {"name": np.array(chosen.names), "index": np.arange(count)}
  taken = {*arrays, *terms, "normal"}
  columns = code_table.label_columns(chosen.labels, known, taken)
  table = {**arrays, **columns}
  if chosen.labels is not None:
    arrays |= {"labels": chosen.labels, "label_names": np.array(known)}
  if is_normal is not None:
    arrays["normal"] = table["normal"] = is_normal.astype(np.int32)
  arrays |= {k: np.array(v) for k, v in _context(model).items()}
  path = other_data.folder(model, "score") / f"{chosen.file}.csv"
  storage.write_arrays(path.with_suffix(".npz"), **arrays, **terms)
  storage.write_table(path, table | terms)
  result = {k: float(np.mean(v, dtype=np.float64)) for k, v in terms.items()}
  result |= {"num_examples": count, **chosen.facts}
  lines = [str(path)]
  if is_normal is not None:
    result["num_normal"] = int(is_normal.sum())
    result["auroc"] = {
      k: scores.auroc(v[~is_normal], v[is_normal]) for k, v in terms.items()
    }
  elif "trained_on" in result:
    ours, line = _of_the_run(model, chosen.file)
    lines.insert(0, line)
    result["auroc"] = {
      k: scores.auroc(v, ours[k]) for k, v in terms.items() if k in ours
    }
  return "\n".join([evaluate_table.table(result), *lines])


class _Chosen(NamedTuple):
  """The images to score, what they are called, and where that is written."""

  source: datasets.Source
  names: tuple[str, ...]
  labels: np.ndarray | None
  file: str
  facts: dict[str, str]


def _choose(
  model: TrainedModel, images: str | None, condition: str | None
) -> _Chosen:
  if images is not None:
    found = arguments.images(model, images, "", chosen=condition)
    source = given.InMemory(found.image, found.label)
    return _Chosen(source, found.name, found.label, "images", {})
  if condition is not None:
    raise ConfigError(
      "--label and --attribute are for --images; those of a split have labels."
    )
  split = model.config.eval.split
  source, splits = model.experiment.source(split), model.experiment.splits
  labels = None
  if source.label_shape is not None:
    labels = datasets.read_labels(source)
  facts = {"data": splits.name, "data_split": splits.words(split)}
  if trained_on := other_data.trained_on(model):
    facts["trained_on"] = trained_on
  return _Chosen(source, splits.names(split), labels, split, facts)


def _context(model: TrainedModel) -> dict[str, int]:
  """Returns what scores depend on, beside the weights and the images."""
  config = model.config.eval
  return {
    "step": model.step,
    "seed": config.seed,
    "importance_samples": config.importance_samples,
  }


def _of_the_run(
  model: TrainedModel, split: str
) -> tuple[dict[str, np.ndarray], str]:
  """Returns the scores of the run's own split, {} if there are none of this
  checkpoint and these settings, and a sentence about the AUROC."""
  # All images of a run are also those that it was trained on.
  split = "test" if split == datasets.ALL else split
  path = model.workdir / "score" / f"{split}.npz"
  wanted = _context(model)
  arrays = {}
  if path.exists():
    with storage.parsing(path, "delete it, and score again"):
      arrays = dict(storage.read_arrays(path))
  if {k: int(arrays.get(k, -1)) for k in wanted} != wanted:
    return {}, (
      f"For the AUROC against the {split} images of the run's own data, score "
      "these first, by this command without --config.data."
    )
  return arrays, f"auroc: of these images against those in {path}"


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
