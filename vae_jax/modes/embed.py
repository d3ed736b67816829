"""Embeds the codes of a split in a plane (PCA, UMAP), to <workdir>/embed/."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from ml_collections import ConfigDict
from sklearn import decomposition

from vae_jax import figures
from vae_jax.config import ConfigError
from vae_jax.data import datasets, errors
from vae_jax.figures import projector
from vae_jax.latents import conditions, given, trained_model
from vae_jax.modes import arguments, code_table
from vae_jax.runtime import storage
from vae_jax.training.experiment import Experiment

NEEDS = "run"

_DEFAULT = "Smiling"  # Attribute that colors the points, where there is one.
_PANELS = 6
_MAX_PROJECTOR = 5000  # Points that a browser still turns smoothly.
_MAX_UMAP = 10_000
_NEIGHBORS = 15  # Of UMAP.

Labels = Integer[np.ndarray, "n ..."] | None


def run(
  config: ConfigDict,
  workdir: str,
  *,
  attribute: str | None = None,
  images: str | None = None,
) -> str:
  """Embeds the codes of `config.eval.split`; returns the paths of the files.

  The attribute, by default Smiling, or else the first, colors the points.

  Writes to `<workdir>/embed/`:
    <split>.npz: codes, posterior means [n d], and deviations of the posteriors;
      names and index, positions in the split; labels and label_names, if any;
      pca [n 2] and explained_variance, its shares of the total; umap [m 2] of
      the first m codes, if installed
    <split>.csv: names, labels, means (z0, ...) and deviations (s0, ...)
    <split>_pca.png and <split>_umap.png: colored by class, or by an attribute
    <split>_pca_attributes.png, ...: by the attributes that the plane explains
      best
    projector/: the first 5,000 codes for TensorBoard, with labels and images

  With --images, see `arguments`, they are named images.* and of these alone.

  Raises:
    ConfigError: there is no such attribute.
  """
  model = trained_model.open_run(config, workdir)
  split = config.eval.split
  # Checked before the images are encoded, which takes long.
  chosen = _attribute(model.experiment, attribute)
  if images is None:
    source = model.experiment.source(split)
    codes, deviations, labels = model.coded(source, "encoding")
    titles = model.experiment.splits.names(split)
  else:
    selection, split = arguments.images(model, images, ""), "images"
    labels, titles = selection.label, selection.name
    source = given.InMemory(selection.image, labels)
    codes, deviations, _ = model.coded(source)
  names = conditions.names_of(model.experiment, labels)
  points, shares = pca(codes)
  first, second = (f"component, {v:.1%} of the variance" for v in shares)
  axes = {
    "pca": (f"first {first}", f"second {second}"),
    "umap": ("UMAP 1", "UMAP 2"),
  }
  planes, lines = {"pca": points}, []
  try:
    planes["umap"] = umap(codes[:_MAX_UMAP])
  except ConfigError as error:
    lines.append(str(error))
  arrays = {"codes": codes, "deviations": deviations}
  arrays |= {"names": np.array(titles), "index": np.arange(len(codes))}
  arrays |= {"explained_variance": shares, **planes}
  if labels is not None:
    arrays |= {"labels": labels, "label_names": np.array(names)}

  folder = model.workdir / "embed"
  storage.write_arrays(folder / f"{split}.npz", **arrays)
  code_table.write(folder / f"{split}.csv", model, arrays)
  for name, points in planes.items():
    shown = labels if labels is None else labels[: len(points)]
    pictures = {f"{split}_{name}.png": [_coloring(shown, names, chosen)]}
    if labels is not None and labels.ndim == 2:
      best = best_explained(points, shown, names)
      pictures[f"{split}_{name}_attributes.png"] = best
    for file, colorings in pictures.items():
      figures.scatter(
        points,
        colorings,
        folder / file,
        title=f"{name.upper()} of {len(points):,} codes: "
        f"{config.data.name} {split}",
        x_label=axes[name][0],
        y_label=axes[name][1],
      )
      lines.append(str(folder / file))
  lines.append(_project(source, folder / "projector", codes, labels, names))
  return "\n".join([*lines, str(folder / f"{split}.npz")])


def pca(
  codes: Float[np.ndarray, "n d"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " 2"]]:
  """Returns two principal components and their shares of the variance.

  The largest weight of each component is positive. The second component of
  one-dimensional codes is 0, and everything of codes that are all equal.
  """
  if np.all(codes == codes[:1]):
    return np.zeros((len(codes), 2)), np.zeros(2)
  fit = decomposition.PCA(min(2, *codes.shape), svd_solver="full")
  points = fit.fit_transform(codes.astype(np.float64))
  largest = np.abs(fit.components_).argmax(axis=1)
  points *= np.sign(fit.components_[np.arange(len(largest)), largest])
  missing = 2 - points.shape[1]
  shares = np.pad(fit.explained_variance_ratio_, (0, missing))
  return np.pad(points, ((0, 0), (0, missing))), shares


def umap(codes: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
  """Returns the UMAP embedding of codes, with a fixed seed.

  References:
    McInnes, Healy and Melville, arXiv 1802.03426.

  Raises:
    ConfigError: umap-learn is not installed, or there are too few codes.
  """
  if len(codes) <= _NEIGHBORS:
    raise ConfigError(
      f"UMAP is left out: it needs more than {_NEIGHBORS} codes, and there are "
      f"{len(codes)}."
    )
  with warnings.catch_warnings():
    # It warns of numba, of a missing TensorFlow and of the fixed seed.
    warnings.simplefilter("ignore")
    try:
      import umap as umap_learn
    except ImportError:
      raise ConfigError(
        "UMAP is left out, since umap-learn is not installed: "
        '`pip install -e ".[umap]"`.'
      ) from None
    reducer = umap_learn.UMAP(n_neighbors=_NEIGHBORS, random_state=0, n_jobs=1)
    return reducer.fit_transform(codes)


def best_explained(
  points: Float[np.ndarray, "n 2"],
  labels: Integer[np.ndarray, "n a"],
  names: Sequence[str],
) -> list[figures.Coloring]:
  """Returns the colorings by the attributes that a plane explains best.

  The measure is R^2, the share of an attribute's variance that a linear
  function of the two coordinates explains.
  """
  centered = labels - labels.mean(axis=0)
  design = points - points.mean(axis=0)
  fitted = design @ np.linalg.lstsq(design, centered, rcond=None)[0]
  total = (centered**2).sum(axis=0)
  explained = (fitted**2).sum(axis=0) / np.where(total > 0, total, np.inf)
  best = np.argsort(-explained, kind="stable")[:_PANELS]
  return [
    _by_attribute(labels, names, int(a), f"{names[a]}, R² = {explained[a]:.2f}")
    for a in best
  ]


def _attribute(experiment: Experiment, name: str | None) -> str | None:
  """Returns the attribute that colors the points, None for classes.

  Raises:
    ConfigError: there is no such attribute.
  """
  splits = experiment.splits
  shape, names = splits.train.label_shape, splits.label_names
  if not shape:
    if name is not None:
      has = "no labels" if shape is None else "classes, which give the colors"
      raise ConfigError(
        f"--attribute is {name!r}, but {splits.name} has {has}."
      )
    return None
  names = names or tuple(map(str, range(shape[0])))
  name = name or (_DEFAULT if _DEFAULT in names else names[0])
  if name not in names:
    raise ConfigError(
      f"--attribute is {name!r}, which {splits.name} does not have"
      f"{errors.suggest(name, names, most=len(names))}."
    )
  return name


def _coloring(
  labels: Labels, names: tuple[str, ...], attribute: str | None
) -> figures.Coloring:
  # Labels that a data set withholds are -1, in its test split.
  if labels is None or labels.min() < 0:
    return figures.Coloring("")
  if attribute is None:
    return figures.Coloring("by class", labels, names)
  return _by_attribute(labels, names, names.index(attribute), attribute)


def _by_attribute(
  labels: Labels, names: Sequence[str], a: int, title: str
) -> figures.Coloring:
  return figures.Coloring(title, labels[:, a], (f"not {names[a]}", names[a]))


def _project(
  source: datasets.Source,
  folder: storage.Path,
  codes: np.ndarray,
  labels: Labels,
  names: tuple[str, ...],
) -> str:
  index = np.arange(min(_MAX_PROJECTOR, len(codes)))
  columns = [("index", index)]
  if labels is not None and labels.ndim == 1:
    words = [names[i] if i >= 0 else "" for i in labels[index]]
    columns.append(("label", words))
  elif labels is not None:
    columns += zip(names, labels[index].T, strict=True)
  images = source.fetch(index)["image"]
  projector.write(folder, codes[index], images, columns)
  return f"tensorboard --logdir={folder}"
