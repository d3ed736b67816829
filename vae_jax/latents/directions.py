"""Linear directions in latent space that add or remove an attribute.

There are three kinds, in one unit: unit length is the mean distance, along the
direction, between codes with and without the attribute (for `balanced`: with
everything else held equal).

  mean      v = m1 - m0, the difference of the mean codes with and without
  balanced  the same with everything else held equal: for attributes, the
            coefficient of the attribute in a least-squares fit of the codes on
            all attributes; for classes, the mean of the class less the
            unweighted mean of the other classes' means
  probe     w (w . (m1 - m0)) / (w . w), w the weights of a logistic regression
            that predicts the attribute from the code

References:
  mean: Larsen et al., arXiv 1512.09300, section 4.1; White, arXiv 1609.04468,
  section 3.2, also on correlated attributes; probe: Shen et al., arXiv
  1907.10786, section 3.
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from concurrent import futures

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from vae_jax.config import ConfigError
from vae_jax.runtime import storage

KINDS = ("mean", "balanced", "probe")


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
  """A direction for each attribute and kind.

  Attributes:
    names: of the attributes or classes.
    vectors: in the order of `KINDS`; NaN for an attribute that all images have,
      or none.
    pixels: mean image with each attribute less mean image without it, pixels in
      [0, 255].
    positives: number of images with each attribute.
    total: number of images.
    correlation: between attributes; 0 for an attribute that does not vary.
    accuracy: balanced accuracy of each probe on the images that it was fitted
      to; 0.5 is chance.
    split: split of the data set that the codes are from.
    step: of the checkpoint that encoded them.
  """

  names: tuple[str, ...]
  vectors: Float[np.ndarray, "kinds a d"]
  pixels: Float[np.ndarray, "a h w c"]
  positives: Integer[np.ndarray, " a"]
  total: int
  correlation: Float[np.ndarray, "a a"]
  accuracy: Float[np.ndarray, " a"]
  split: str
  step: int

  def vector(self, name: str, kind: str) -> Float[np.ndarray, " d"]:
    """Returns the direction of an attribute.

    Raises:
      ConfigError: as `check`, or there is no such kind.
    """
    if kind not in KINDS:
      raise ConfigError(
        f"There is no direction {kind!r}; it must be one of {list(KINDS)}."
      )
    return self.vectors[KINDS.index(kind), self.check(name)]

  def pixel_difference(self, name: str) -> Float[np.ndarray, "h w c"]:
    """Returns the mean image with an attribute less the one without it, or
    raises an error as `check`."""
    return self.pixels[self.check(name)]

  def check(self, name: str) -> int:
    """Returns the position in `names` of an attribute that has a direction.

    Raises:
      ConfigError: there is no such attribute, or it does not vary.
    """
    if name not in self.names:
      raise unknown(name, self.names)
    count = self.positives[self.names.index(name)]
    if count in (0, self.total):
      raise ConfigError(
        f"{count} of {self.total} images of the split {self.split} have the "
        f"attribute {name}: there is no direction to it."
      )
    return self.names.index(name)


def unknown(name: str, known: tuple[str, ...]) -> ConfigError:
  """Returns the error of an unknown attribute."""
  near = difflib.get_close_matches(name, known, n=3)
  hint = f"there are: {', '.join(known)}."
  if near:
    hint = f"did you mean {' or '.join(near)}?"
  return ConfigError(f"There is no attribute {name!r}; {hint}")


def estimate(
  codes: Float[np.ndarray, "n d"],
  labels: Integer[np.ndarray, "n ..."],
  names: tuple[str, ...],
  *,
  images: Iterable[UInt8[np.ndarray, "_ h w c"]],
  split: str,
  step: int,
) -> Directions:
  """Estimates the directions of all attributes from codes of a split.

  Args:
    codes: posterior means.
    labels: as in `present_in`; each class is an attribute.
    names: of the attributes or classes.
    images: the images of the codes, in chunks of any size.
    split: stored in the result, as is the step.
    step: of the checkpoint.
  """
  codes = codes.astype(np.float64)
  present = present_in(labels, len(names))
  mean = _differences(present.T @ codes, codes.sum(axis=0), present)
  if labels.ndim == 1:
    balanced = _differences_of_classes(codes, present)
  else:
    balanced = _coefficients(codes, present)
  balanced[~np.isfinite(mean).all(axis=1)] = np.nan
  probe, accuracy = _probes(codes, present, mean)
  return Directions(
    names=names,
    vectors=np.stack([mean, balanced, probe]).astype(np.float32),
    pixels=_pixel_differences(images, present).astype(np.float32),
    positives=present.sum(axis=0),
    total=len(codes),
    correlation=_correlation(present),
    accuracy=accuracy,
    split=split,
    step=step,
  )


def present_in(
  labels: Integer[np.ndarray, "n ..."], count: int
) -> Bool[np.ndarray, "n a"]:
  """Returns whether each image has each of `count` attributes (labels [n a],
  0 or 1), or is of each of as many classes (labels [n], their ids)."""
  if labels.ndim == 1:
    return labels[:, None] == np.arange(count)
  return labels.astype(bool)


def _differences(
  inside: np.ndarray, total: np.ndarray, present: np.ndarray
) -> np.ndarray:
  """Returns the mean with each attribute less the mean without it, [a d], from
  the sums over the images with it, [a d], and over all images, [d]."""
  count = present.sum(axis=0)[:, None]
  with np.errstate(divide="ignore", invalid="ignore"):
    return inside / count - (total - inside) / (len(present) - count)


def _pixel_differences(
  images: Iterable[np.ndarray], present: np.ndarray
) -> np.ndarray:
  """Returns the mean image with each attribute less the one without it, as
  [a h w c]."""
  inside, total, begin, shape = 0.0, 0.0, 0, ()
  for chunk in images:
    chosen = present[begin : begin + len(chunk)].T.astype(np.float32)
    flat = chunk.reshape(len(chunk), -1).astype(np.float32)
    # Integers: exact in float32 for up to 65,793 images in a chunk.
    inside = inside + (chosen @ flat).astype(np.float64)
    total = total + flat.sum(axis=0, dtype=np.float64)
    begin, shape = begin + len(chunk), chunk.shape[1:]
  return _differences(inside, total, present).reshape(-1, *shape)


def _differences_of_classes(
  codes: np.ndarray, present: np.ndarray
) -> np.ndarray:
  """Returns the mean code of each class less the mean of the other classes'
  mean codes, [a d]."""
  with_it = present.T.astype(np.float64)
  count = with_it.sum(axis=1, keepdims=True)
  there = count[:, 0] > 0
  means = np.where(there[:, None], with_it @ codes / np.maximum(count, 1), 0)
  others = max(there.sum() - 1, 1)
  return means - (means.sum(axis=0) - means) / others


def _coefficients(codes: np.ndarray, present: np.ndarray) -> np.ndarray:
  """Returns least-squares coefficients of attributes in a fit of codes, [a d];
  for attributes that determine each other, the shortest solution."""
  centered = present - present.mean(axis=0)
  solution = np.linalg.lstsq(centered, codes - codes.mean(axis=0), rcond=1e-8)
  return solution[0]


def _probes(
  codes: np.ndarray, present: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the directions of logistic regressions, [a d], and their balanced
  accuracies, [a]."""
  # Half of the time that a run needs to start would go to this import.
  from sklearn import linear_model, preprocessing

  scaler = preprocessing.StandardScaler().fit(codes)
  scaled = scaler.transform(codes)

  def fit(a: int) -> tuple[np.ndarray, float]:
    hit = present[:, a]
    if not np.isfinite(mean[a]).all():
      return np.full(codes.shape[1], np.nan), np.nan
    line = linear_model.LogisticRegression(
      class_weight="balanced", max_iter=1000
    ).fit(scaled, hit)
    # Weights of the unscaled codes; constant dimensions have scale 1.
    weights = line.coef_[0] / scaler.scale_
    correct = line.predict(scaled) == hit
    accuracy = (correct[hit].mean() + correct[~hit].mean()) / 2
    length = weights @ weights
    return weights * (weights @ mean[a]) / max(length, 1e-300), accuracy

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    directions, accuracies = zip(
      *pool.map(fit, range(present.shape[1])), strict=True
    )
  return np.stack(directions), np.array(accuracies)


def _correlation(present: np.ndarray) -> np.ndarray:
  centered = present - present.mean(axis=0)
  spread = np.sqrt((centered**2).sum(axis=0))
  scale = np.where(spread > 0, spread, 1)
  return (centered / scale).T @ (centered / scale)


def save(directions: Directions, path: storage.Path) -> None:
  """Writes directions to an `.npz` file, atomically."""
  names = [field.name for field in dataclasses.fields(Directions)]
  arrays = {name: np.asarray(getattr(directions, name)) for name in names}
  storage.write_arrays(path, **arrays)


def load(path: storage.Path) -> Directions:
  """Reads a file of `save`, without pickle.

  Raises:
    ConfigError: the file is damaged or of another kind.
  """
  with storage.parsing(path, "--mode=attributes makes it again"):
    values = dict(storage.read_arrays(path))
    values["names"] = tuple(values["names"].tolist())
    for name, kind in (("total", int), ("split", str), ("step", int)):
      values[name] = kind(values[name])
    return Directions(**values)
