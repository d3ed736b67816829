"""Shapes and colors, and a pen that draws them on a turned and tilted head.

Lengths are in units of `_ZOOM` pixels; x points to the right and y down.
"""

import colorsys
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

SIZE = 64
# Images are drawn so many times larger and averaged, against aliasing.
_OVERSAMPLING = 4
_ZOOM = 1.2

Number = float | int
Rgb = tuple[int, int, int]
Points = Float[np.ndarray, "_ 2"]


def colors(words: str) -> tuple[Rgb, ...]:
  """Returns colors from hexadecimal words such as "ffe5d3"."""
  return tuple(tuple(bytes.fromhex(word)) for word in words.split())


def points(*pairs: Sequence[Number]) -> Points:
  """Returns an array of points from (x, y) pairs."""
  return np.array(pairs, dtype=np.float64)


def curve(x: np.ndarray, y: np.ndarray) -> Points:
  """Returns an array of points from their coordinates."""
  result = np.empty((len(x), 2))
  result[:, 0] = x
  result[:, 1] = y
  return result


_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = curve(np.cos(_ANGLES), np.sin(_ANGLES))


@functools.cache
def _spline(count: int, steps: int = 5) -> np.ndarray:
  """Returns the weights of the knots in each point of a Catmull-Rom curve."""
  t = np.arange(steps) / steps
  basis = [
    -(t**3) + 2 * t**2 - t,
    3 * t**3 - 5 * t**2 + 2,
    -3 * t**3 + 4 * t**2 + t,
    t**3 - t**2,
  ]
  weights = np.zeros((steps * (count - 1) + 1, count))
  for segment in range(count - 1):
    rows = slice(steps * segment, steps * (segment + 1))
    for offset, weight in enumerate(basis):
      # The end knots replace their missing neighbors.
      knot = min(max(segment + offset - 1, 0), count - 1)
      weights[rows, knot] += 0.5 * weight
  weights[-1, -1] = 1.0
  return weights


def smooth(knots: Points) -> Points:
  """Returns the Catmull-Rom curve through the knots, ends included."""
  return _spline(len(knots)) @ knots


def mirrored(half: Points) -> Points:
  """Returns a curve that starts at x = 0 with its mirror image before it."""
  return np.concatenate([half[:0:-1] * (-1, 1), half])


def symmetric(*pairs: Sequence[Number]) -> Points:
  """Returns a smooth symmetric curve from the knots of its right half."""
  return smooth(mirrored(points(*pairs)))


def ellipse(x: Number, y: Number, rx: Number, ry: Number) -> Points:
  """Returns the outline of an ellipse with center (x, y), half axes rx, ry."""
  return _CIRCLE * (rx, ry) + (x, y)


@functools.cache
def _fourth_powers(count: int) -> np.ndarray:
  return np.linspace(-1, 1, count) ** 4


def ribbon(center: Points, width: float, taper: float = 0.0) -> Points:
  """Returns the outline of a stroke, thinner at the ends by `taper`."""
  half = 0.5 * width * (1 - taper * _fourth_powers(len(center)))
  outline = np.concatenate([center, center[::-1]])
  outline[: len(center), 1] -= half
  outline[len(center) :, 1] += half
  return outline


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
  """Interpolates from the color `first` (share 0) to `second` (share 1)."""
  (r, g, b), (red, green, blue) = first, second
  return (
    round(r + (red - r) * share),
    round(g + (green - g) * share),
    round(b + (blue - b) * share),
  )


def palette(stops: Sequence[Rgb], position: float) -> Rgb:
  """Interpolates equally spaced colors at `position` in [0, 1]."""
  scaled = position * (len(stops) - 1)
  left = min(int(scaled), len(stops) - 2)
  return mix(stops[left], stops[left + 1], scaled - left)


def hsv(hue: float, saturation: float, value: float) -> Rgb:
  """Returns the color of hue, saturation and value in [0, 1]."""
  r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
  return round(255 * r), round(255 * g), round(255 * b)


class Canvas:
  """The image while it is drawn, `_OVERSAMPLING` times as large."""

  def __init__(self, corners: Sequence[Rgb]):
    """Fills the background with a gradient between four corner colors."""
    image = Image.fromarray(np.array(corners, np.uint8).reshape(2, 2, 3))
    # The box spans the centers of the four pixels, so that no part is flat.
    image = image.resize(
      (SIZE, SIZE), Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5)
    )
    side = SIZE * _OVERSAMPLING
    self._image = image.resize((side, side), Image.Resampling.NEAREST)
    self.opaque = ImageDraw.Draw(self._image)
    self.translucent = ImageDraw.Draw(self._image, "RGBA")

  def finish(self) -> Float[np.ndarray, "h w c"]:
    """Returns the image at its final size, in [0, 255]."""
    return np.asarray(self._image.reduce(_OVERSAMPLING), dtype=np.float64)


class Pen:
  """Fills shapes whose origin is the center of a head.

  Half axes are in pixels, yaw and roll in radians.

  Attributes:
    rx: half width of the head.
    ry: half height of the head.
    turn: sine of the yaw; a point at depth z moves by z * turn.
  """

  def __init__(
    self,
    canvas: Canvas,
    *,
    rx: float,
    ry: float,
    yaw: float = 0.0,
    roll: float = 0.0,
  ):
    self.rx = rx
    self.ry = ry
    self.turn = float(np.sin(yaw))
    self._cos = float(np.cos(yaw))
    self._curvature = np.array([1 / rx**2, 0.6 / ry**2])
    self._canvas = canvas
    c, s = float(np.cos(roll)), float(np.sin(roll))
    self._rotation = np.array([[c, s], [-s, c]]) * (_OVERSAMPLING * _ZOOM)
    # The head rolls around the top of the neck.
    pivot = np.array([0.0, 14.0])
    center = 0.5 * SIZE * _OVERSAMPLING
    self._origin = (
      pivot * _OVERSAMPLING * _ZOOM + center - pivot @ self._rotation
    )

  def surface(self, flat: Points, lift: float = 0.0) -> Points:
    """Moves points of the front view of a face as the head turns.

    The head is an ellipsoid: (x, y) has depth z = 12 sqrt(1 - (x/rx)^2 -
    0.6 (y/ry)^2) + lift, in pixels, and yaw takes x to x cos + z sin.
    """
    inside = 1 - (flat * flat) @ self._curvature
    z = 12 * np.sqrt(np.maximum(inside, 0)) + lift
    seen = flat.copy()
    seen[:, 0] = flat[:, 0] * self._cos + z * self.turn
    return seen

  def fill(self, shape: Points, color: Rgb, opacity: float = 1.0) -> None:
    """Fills a closed shape."""
    flat = (shape @ self._rotation + self._origin).ravel().tolist()
    # Without blending where possible, because it takes time.
    if opacity < 1:
      fill = (*color, round(255 * opacity))
      self._canvas.translucent.polygon(flat, fill=fill)
    else:
      self._canvas.opaque.polygon(flat, fill=color)

  def line(self, path: Points, color: Rgb, width: float) -> None:
    """Draws an open line of constant width, in pixels."""
    flat = (path @ self._rotation + self._origin).ravel().tolist()
    thickness = max(1, round(width * _OVERSAMPLING * _ZOOM))
    self._canvas.opaque.line(flat, fill=color, width=thickness, joint="curve")

  def glow(self, shape: Points, color: Rgb, opacity: float) -> None:
    """Fills a shape that fades from its center to its edge."""
    middle = shape.mean(axis=0)
    for size in (1.0, 0.7, 0.4):
      self.fill(middle + (shape - middle) * size, color, opacity / 3)
