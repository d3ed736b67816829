"""Pictures of the latent space, to click on."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8
from PIL import Image, ImageDraw
from scipy import stats

from vae_jax.latents import quantiles, trained_model

_ROWS = 20  # Of decoded pictures, and as many columns.
_GRID = (np.arange(_ROWS) + 0.5) / _ROWS  # Probabilities of their quantiles.
_WIDTH, _HEIGHT = 960, 640  # Of a cloud, pixels.
_RADIUS = 4  # Of a point, pixels.
_CHUNK = 50  # Codes decoded at a time for a map.
# Distinct on white, on black and for the color-blind (Okabe, Ito).
COLORS = (
  (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0),
  (204, 121, 167), (86, 180, 233), (160, 150, 30), (120, 94, 240),
  (130, 130, 130), (150, 90, 60),
)  # fmt: skip

Legend = tuple[tuple[tuple[int, int, int], str], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
  """Decoded codes of a model with two latents.

  Attributes:
    picture: 20 x 20 decoded codes.
    levels: Quantiles of each of the two latents, ascending, [2 20].
    caption: Text under the picture.
    standard_prior: Whether the quantiles are those of N(0, 1).
  """

  picture: UInt8[np.ndarray, "h w c"]
  levels: Float[np.ndarray, "2 20"]
  caption: str
  standard_prior: bool

  def code(self, x: float | int, y: float | int) -> Float32[np.ndarray, " 2"]:
    """Returns the code at a point; the center of each picture has its code.

    Args:
      x: 0 at the left edge, 1 at the right one.
      y: 0 at the top, 1 at the bottom.
    """
    half = 0.5 / _ROWS
    probability = np.clip(np.array([x, 1 - y]), half, 1 - half)
    if self.standard_prior:
      return stats.norm.ppf(probability).astype(np.float32)
    pairs = zip(probability, self.levels, strict=True)
    return np.array([np.interp(p, _GRID, z) for p, z in pairs], np.float32)

  def place(self, code: Float32[np.ndarray, " d"]) -> tuple[float, float]:
    """Returns the point of a code, the inverse of `code`."""
    if self.standard_prior:
      x, y = stats.norm.cdf(code)
    else:
      pairs = zip(code, self.levels, strict=True)
      x, y = (np.interp(c, z, _GRID) for c, z in pairs)
    return float(x), float(1 - y)


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
  """Codes of images in the plane of their first two principal components.

  Attributes:
    picture: One dot per code on a transparent background, RGBA.
    places: Of the codes, in [0, 1], from the top left, [n 2].
    mean: Of the codes.
    axes: The components, scaled to the picture, [d 2].
    offset: Place of the mean, [2].
    caption: Text under the picture.
    legend: Colors and their labels.
  """

  picture: UInt8[np.ndarray, "h w 4"]
  places: Float[np.ndarray, "n 2"]
  mean: Float[np.ndarray, " d"]
  axes: Float[np.ndarray, "d 2"]
  offset: Float[np.ndarray, " 2"]
  caption: str
  legend: Legend

  def nearest(self, x: float | int, y: float | int) -> int:
    """Returns the index of the image whose code is nearest to a point."""
    distance = ((self.places - (x, y)) ** 2).sum(axis=1)
    return int(distance.argmin())

  def place(self, code: Float32[np.ndarray, " d"]) -> tuple[float, float]:
    """Returns the point of a code, moved to the edge if it is outside."""
    x, y = np.clip((code - self.mean) @ self.axes + self.offset, 0, 1)
    return float(x), float(y)


def plane(
  model: trained_model.TrainedModel,
  codes: Float32[np.ndarray, "n 2"],
  standard_prior: bool,
) -> Plane:
  """Returns the map of a model with two latents.

  Args:
    model: The model.
    codes: Posterior means of images.
    standard_prior: Whether to use quantiles of N(0, 1), not of the codes.
  """
  levels = quantiles.aggregate_quantiles(codes, _ROWS)
  if standard_prior:
    levels = np.tile(quantiles.prior_quantiles(_ROWS), (2, 1))
  model = dataclasses.replace(model, chunk=_CHUNK)
  images = model.decode(quantiles.grid(*levels))
  h, w, c = images.shape[1:]
  rows = images.reshape(_ROWS, _ROWS, h, w, c).swapaxes(1, 2)
  return Plane(
    picture=rows.reshape(_ROWS * h, _ROWS * w, c),
    levels=levels.astype(np.float64),
    caption="Decoded codes at equal steps of probability of the two latents.",
    standard_prior=standard_prior,
  )


def cloud(
  codes: Float32[np.ndarray, "n d"],
  labels: Integer[np.ndarray, "n ..."] | None,
  label_names: tuple[str, ...] | None,
  attribute: str | None,
) -> Cloud:
  """Returns the map of a model with any number of latents.

  Args:
    codes: Posterior means of images.
    labels: Classes [n] or attributes [n a] of the images; None without.
    label_names: Names of the classes or attributes; None without.
    attribute: Name of the attribute that colors the dots; None = one color.
  """
  codes = codes.astype(np.float64)
  mean = codes.mean(axis=0)
  _, scale, components = np.linalg.svd(codes - mean, full_matrices=False)
  axes = np.zeros((codes.shape[1], 2))
  # Singular vectors have no sign of their own.
  first = components[:2] * np.sign(components[:2].sum(axis=1, keepdims=True))
  axes[:, : len(first)] = first.T
  flat = (codes - mean) @ axes
  low, high = flat.min(axis=0), flat.max(axis=0)
  margin = 0.04 * (high - low) + 1e-9
  low, span = low - margin, high - low + 2 * margin
  # The second component points upwards, the rows of a picture downwards.
  axes = axes / span * (1, -1)
  offset = -low / span * (1, -1) + (0, 1)
  places = (codes - mean) @ axes + offset
  share = (scale[:2] ** 2).sum() / max((scale**2).sum(), 1e-12)
  colors, legend = _colors(labels, label_names, attribute, len(codes))
  return Cloud(
    picture=_dots(places, colors),
    places=places,
    mean=mean,
    axes=axes,
    offset=offset,
    caption=(
      f"Codes of {len(codes):,} test pictures along their first two principal "
      f"components ({share:.0%} of the variance)."
    ),
    legend=legend,
  )


def _colors(
  labels: Integer[np.ndarray, "n ..."] | None,
  names: tuple[str, ...] | None,
  attribute: str | None,
  count: int,
) -> tuple[Integer[np.ndarray, " n"], Legend]:
  """Returns the index in `COLORS` of each dot, and a legend."""
  if labels is not None and names is not None:
    if labels.ndim == 1 and len(names) <= len(COLORS):
      return labels, tuple(zip(COLORS, names, strict=False))
    if labels.ndim == 2 and attribute in names:
      words = attribute.replace("_", " ")
      legend = (COLORS[0], f"not {words}"), (COLORS[1], words)
      return labels[:, names.index(attribute)].astype(np.int64), legend
  return np.zeros(count, np.int64), ()


def _dots(
  places: Float[np.ndarray, "n 2"], colors: Integer[np.ndarray, " n"]
) -> UInt8[np.ndarray, "h w 4"]:
  """Draws dots at twice the size and shrinks them, because Pillow's have hard
  edges."""
  image = Image.new("RGBA", (2 * _WIDTH, 2 * _HEIGHT), (128, 128, 128, 0))
  draw = ImageDraw.Draw(image)
  for (x, y), color in zip(places, colors, strict=True):
    center = 2 * _WIDTH * x, 2 * _HEIGHT * y
    draw.circle(center, 2 * _RADIUS, fill=(*COLORS[color], 255))
  return np.asarray(image.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX))
