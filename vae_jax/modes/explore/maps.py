"""Pictures of the latent space, to click on."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8
from PIL import Image, ImageDraw
from scipy import stats

from vae_jax.latents import quantiles, trained_model
from vae_jax.modes.explore import survey

_ROWS = 20  # Of decoded pictures, and as many columns.
_LONGER = 960  # Pixels of a map's longer side.
_CHUNK = 50  # Codes decoded at a time for a map.
# Seen on white and on black, and told apart by the colour-blind (Okabe, Ito).
COLOURS = (
  (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167),
  (86, 180, 233), (160, 150, 30), (120, 94, 240), (130, 130, 130), (150, 90, 60),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
  """What two latents decode to.

  Attributes:
    picture: 20 x 20 decoded codes.
    levels: quantiles, ascending, of each of the two, [2 20].
    caption: what it is, for the person.
    prior: whether the quantiles are those of N(0, 1).
  """

  picture: UInt8[np.ndarray, "h w c"]
  levels: Float[np.ndarray, "2 20"]
  caption: str
  prior: bool

  def code(self, x: float | int, y: float | int) -> Float32[np.ndarray, " 2"]:
    """Returns the code at a point: at the middle of each picture its own.

    Args:
      x: 0 at the left edge, 1 at the right one.
      y: 0 at the top, 1 at the bottom.
    """
    half = 0.5 / _ROWS
    at = np.clip(np.array([x, 1 - y]), half, 1 - half)
    if self.prior:
      return stats.norm.ppf(at).astype(np.float32)
    grid = (np.arange(_ROWS) + 0.5) / _ROWS
    pairs = zip(at, self.levels, strict=True)
    return np.array([np.interp(a, grid, z) for a, z in pairs], np.float32)

  def place(self, code: Float32[np.ndarray, " d"]) -> tuple[float, float]:
    """Returns where a code lies, the inverse of `code`."""
    if self.prior:
      x, y = stats.norm.cdf(code)
    else:
      grid = (np.arange(_ROWS) + 0.5) / _ROWS
      pairs = zip(code, self.levels, strict=True)
      x, y = (np.interp(c, z, grid) for c, z in pairs)
    return float(x), float(1 - y)


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
  """Codes of images in the plane of their first two principal components.

  Attributes:
    picture: a point for each code, RGBA, on nothing.
    places: of the codes, in [0, 1], from the top left, [n 2].
    mean: of the codes.
    axes: the components, scaled to the picture, [d 2].
    caption: what it is, for the person.
    legend: colours and what they mean.
  """

  picture: UInt8[np.ndarray, "h w 4"]
  places: Float[np.ndarray, "n 2"]
  mean: Float[np.ndarray, " d"]
  axes: Float[np.ndarray, "d 2"]
  offset: Float[np.ndarray, " 2"]
  caption: str
  legend: tuple[tuple[tuple[int, int, int], str], ...]

  def nearest(self, x: float | int, y: float | int) -> int:
    """Returns the image whose code lies nearest to a point."""
    distance = ((self.places - (x, y)) ** 2).sum(axis=1)
    return int(distance.argmin())

  def place(self, code: Float32[np.ndarray, " d"]) -> tuple[float, float]:
    """Returns where a code lies; what lies outside is put at the edge."""
    at = np.clip((code - self.mean) @ self.axes + self.offset, 0, 1)
    return float(at[0]), float(at[1])


def plane(model: trained_model.TrainedModel, found: survey.Survey) -> Plane:
  """Returns the map of a model with two latents."""
  if found.prior:
    z1 = z2 = quantiles.prior_quantiles(_ROWS)
  else:
    probability = (np.arange(_ROWS) + 0.5) / _ROWS
    z1, z2 = np.quantile(found.codes, probability, axis=0).T
  model = dataclasses.replace(model, chunk=_CHUNK)
  images = model.decode(quantiles.grid(z1, z2))
  h, w, c = images.shape[1:]
  tiles = images.reshape(_ROWS, _ROWS, h, w, c).swapaxes(1, 2)
  return Plane(
    picture=tiles.reshape(_ROWS * h, _ROWS * w, c),
    levels=np.stack([z1, z2]).astype(np.float64),
    caption="What the two latents decode to, at equal steps of probability.",
    prior=found.prior,
  )


def cloud(found: survey.Survey, names: tuple[str, ...]) -> Cloud:
  """Returns the map of a model with more latents.

  Args:
    found: the codes.
    names: of the attributes; the first one colours the points.
  """
  codes = found.codes.astype(np.float64)
  mean = codes.mean(axis=0)
  _, scale, components = np.linalg.svd(codes - mean, full_matrices=False)
  # Singular vectors have no sign of their own.
  axes = np.zeros((codes.shape[1], 2))
  kept = components[:2] * np.sign(components[:2].sum(axis=1, keepdims=True))
  axes[:, : len(kept)] = kept.T
  flat = (codes - mean) @ axes
  low, high = flat.min(axis=0), flat.max(axis=0)
  margin = 0.04 * (high - low) + 1e-9
  low, span = low - margin, high - low + 2 * margin
  # Downwards in a picture is towards the last row.
  axes = axes / span * (1, -1)
  offset = -low / span * (1, -1) + (0, 1)
  places = (codes - mean) @ axes + offset
  share = (scale[:2] ** 2).sum() / max((scale**2).sum(), 1e-12)
  colour, legend = _coloured(found, names)
  return Cloud(
    picture=_points(places, colour),
    places=places,
    mean=mean,
    axes=axes,
    offset=offset,
    caption=(
      f"Codes of {len(codes):,} test pictures, along the two directions in "
      f"which they differ most ({share:.0%} of their variance)."
    ),
    legend=legend,
  )


def _coloured(
  found: survey.Survey, names: tuple[str, ...]
) -> tuple[Integer[np.ndarray, " n"], tuple]:
  """Which of the colours each point has, and what they mean."""
  labels, known = found.labels, found.label_names
  nothing = np.zeros(len(found.codes), np.int64), ()
  if labels is None or known is None:
    return nothing
  if labels.ndim == 1:
    if len(known) > len(COLOURS):
      return nothing
    return labels, tuple(zip(COLOURS, known, strict=False))
  if not names or names[0] not in known:
    return nothing
  words = names[0].replace("_", " ")
  legend = (COLOURS[0], f"not {words}"), (COLOURS[1], words)
  return labels[:, known.index(names[0])].astype(np.int64), legend


def _points(
  places: Float[np.ndarray, "n 2"], colour: Integer[np.ndarray, " n"]
) -> UInt8[np.ndarray, "h w 4"]:
  """Draws dots, twice as large and made smaller: Pillow's have no soft edge."""
  width, height = _LONGER, _LONGER * 2 // 3
  image = Image.new("RGBA", (2 * width, 2 * height), (128, 128, 128, 0))
  draw = ImageDraw.Draw(image)
  radius = 8
  for (x, y), c in zip(places, colour, strict=True):
    left, top = 2 * width * x, 2 * height * y
    box = (left - radius, top - radius, left + radius, top + radius)
    draw.ellipse(box, fill=(*COLOURS[c], 255))
  return np.asarray(image.resize((width, height), Image.Resampling.BOX))
