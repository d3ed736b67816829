"""Directions in latent space along which an attribute comes or goes.

Three kinds, all in one unit: a step of 1 moves a code as far along its
direction as the codes with and without the attribute lie apart on average (for
`balanced`: as they would, were everything else equal).

  mean      v = m1 - m0, the difference of the mean codes with and without
  balanced  the same with everything else held equal: for attributes, the
            coefficient of the attribute in a least-squares fit of the codes on
            all attributes at once; for classes, the mean of the class less the
            mean of the other classes' means, however frequent each is
  probe     w (w . (m1 - m0)) / (w . w), w the weights of a logistic regression
            that tells the attribute from the code

References:
  mean: Larsen et al., arXiv 1512.09300, section 4.1; White, arXiv 1609.04468,
  section 3.2, also on attributes that go together; probe: Shen et al., arXiv
  1907.10786, section 3.
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from concurrent import futures

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from sklearn import linear_model, preprocessing

from vae_jax.config import ConfigError
from vae_jax.runtime import storage

KINDS = ("mean", "balanced", "probe")


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
  """A direction for each attribute and kind, and what they were made from.

  Attributes:
    names: of the attributes, or of the classes.
    vectors: float32 [kinds a d] in the order of `KINDS`; not a number for an
      attribute that all images have, or none.
    pixels: float32 [a h w c], mean image with each attribute less mean image
      without it, pixels in [0, 255].
    positives: images with each attribute.
    total: images.
    correlation: of the attributes among each other, [a a]; 0 where one does
      not vary.
    accuracy: of each probe on the images it was fitted to, balanced: 0.5 is
      chance.
    split: of the data set that the codes are from.
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
      ConfigError: there is no such attribute or kind, or the attribute does
        not vary.
    """
    if kind not in KINDS:
      raise ConfigError(
        f"There is no direction {kind!r}; it must be one of {list(KINDS)}."
      )
    self.check(name)
    return self.vectors[KINDS.index(kind), self.position(name)]

  def pixel_difference(self, name: str) -> Float[np.ndarray, "h w c"]:
    """Returns mean image with an attribute less mean image without it.

    Raises:
      ConfigError: as `vector`.
    """
    self.check(name)
    return self.pixels[self.position(name)]

  def check(self, name: str) -> None:
    """Stops with one sentence where no way leads to an attribute.

    Raises:
      ConfigError: there is no such attribute, or it does not vary.
    """
    count = self.positives[self.position(name)]
    if count in (0, self.total):
      raise ConfigError(
        f"{count} of {self.total} images of the split {self.split} have the "
        f"attribute {name}: there is no direction to it."
      )

  def position(self, name: str) -> int:
    """Returns which of `names` an attribute is.

    Raises:
      ConfigError: it is none of them.
    """
    if name not in self.names:
      raise ConfigError(unknown(name, self.names))
    return self.names.index(name)


def unknown(name: str, known: tuple[str, ...]) -> str:
  """Returns a sentence that says that there is no such attribute."""
  near = difflib.get_close_matches(name, known, n=3)
  if near:
    return f"There is no attribute {name!r}; did you mean {' or '.join(near)}?"
  return f"There is no attribute {name!r}; there are: {', '.join(known)}."


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
    labels: attributes [n a], 0 or 1; or class ids [n], each class then being
      an attribute.
    names: of the attributes, or of the classes.
    images: the images themselves, in any parts.
    split: where the codes are from, for the record.
    step: of the checkpoint that made them, for the record.
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
  """Returns which image has which attribute, or is of which class.

  Args:
    labels: attributes [n a], 0 or 1, or class ids [n].
    count: number of attributes or classes.
  """
  if labels.ndim == 1:
    return labels[:, None] == np.arange(count)
  return labels.astype(bool)


def _differences(
  inside: np.ndarray, total: np.ndarray, present: np.ndarray
) -> np.ndarray:
  """Mean with each attribute less mean without it, [a d]; from the sum over
  the images with it, [a d], and the sum over all images, [d]."""
  count = present.sum(axis=0)[:, None]
  with np.errstate(divide="ignore", invalid="ignore"):
    return inside / count - (total - inside) / (len(present) - count)


def _pixel_differences(
  images: Iterable[np.ndarray], present: np.ndarray
) -> np.ndarray:
  """Mean image with each attribute less mean image without it, [a h w c]."""
  inside, total, begin, shape = 0.0, 0.0, 0, ()
  for part in images:
    chosen = present[begin : begin + len(part)].T.astype(np.float32)
    flat = part.reshape(len(part), -1).astype(np.float32)
    # Whole numbers: exact in float32 up to 65,793 images a part.
    inside = inside + (chosen @ flat).astype(np.float64)
    total = total + flat.sum(axis=0, dtype=np.float64)
    begin, shape = begin + len(part), part.shape[1:]
  return _differences(inside, total, present).reshape(-1, *shape)


def _differences_of_classes(
  codes: np.ndarray, present: np.ndarray
) -> np.ndarray:
  """Mean code of each class less the mean of those of the others, [a d]."""
  with_it = present.T.astype(np.float64)
  count = with_it.sum(axis=1, keepdims=True)
  there = count[:, 0] > 0
  means = np.where(there[:, None], with_it @ codes / np.maximum(count, 1), 0)
  others = max(there.sum() - 1, 1)
  return means - (means.sum(axis=0) - means) / others


def _coefficients(codes: np.ndarray, present: np.ndarray) -> np.ndarray:
  """Least-squares coefficients of the attributes in a fit of codes, [a d].

  Of attributes that determine each other the shortest solution is taken.
  """
  centred = present - present.mean(axis=0)
  solution = np.linalg.lstsq(centred, codes - codes.mean(axis=0), rcond=1e-8)
  return solution[0]


def _probes(
  codes: np.ndarray, present: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Directions of logistic regressions, [a d], and their accuracies, [a]."""
  scaler = preprocessing.StandardScaler().fit(codes)
  scaled = scaler.transform(codes)

  def fit(a: int) -> tuple[np.ndarray, float]:
    hit = present[:, a]
    if not np.isfinite(mean[a]).all():
      return np.full(codes.shape[1], np.nan), np.nan
    line = linear_model.LogisticRegression(
      class_weight="balanced", max_iter=1000
    ).fit(scaled, hit)
    # Weights of the codes themselves; a code that never varies keeps scale 1.
    weights = line.coef_[0] / scaler.scale_
    told = line.predict(scaled) == hit
    accuracy = (told[hit].mean() + told[~hit].mean()) / 2
    length = weights @ weights
    return weights * (weights @ mean[a]) / max(length, 1e-300), accuracy

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    directions, accuracies = zip(
      *pool.map(fit, range(present.shape[1])), strict=True
    )
  return np.stack(directions), np.array(accuracies)


def _correlation(present: np.ndarray) -> np.ndarray:
  centred = present - present.mean(axis=0)
  spread = np.sqrt((centred**2).sum(axis=0))
  scale = np.where(spread > 0, spread, 1)
  return (centred / scale).T @ (centred / scale)


def save(found: Directions, path: storage.Path) -> None:
  """Writes directions to an `.npz` file, whole or not at all."""
  storage.write_arrays(
    path,
    **{
      field.name: np.asarray(getattr(found, field.name))
      for field in dataclasses.fields(Directions)
    },
  )


def load(path: storage.Path) -> Directions:
  """Reads what `save` wrote; needs no pickle."""
  values = storage.read_arrays(path)
  return Directions(
    **{
      **values,
      "names": tuple(values["names"].tolist()),
      "total": int(values["total"]),
      "split": str(values["split"]),
      "step": int(values["step"]),
    }
  )
