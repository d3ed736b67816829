"""Shapes, colours and a pen that draws them on a turned and tilted head.

Lengths are in units of `_ZOOM` pixels, x to the right and y down.
"""

import colorsys
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

SIZE = 64
# Shapes are drawn this many times larger and averaged down: anti-aliasing.
_OVERSAMPLING = 4
_ZOOM = 1.2

Number = float | int
Rgb = tuple[int, int, int]
Points = Float[np.ndarray, "_ 2"]


def points(*pairs: Sequence[Number]) -> Points:
  """Array of points from (x, y) pairs."""
  return np.array(pairs, dtype=np.float64)


def curve(x: np.ndarray, y: np.ndarray) -> Points:
  """Array of points from their coordinates."""
  result = np.empty((len(x), 2))
  result[:, 0] = x
  result[:, 1] = y
  return result


_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = curve(np.cos(_ANGLES), np.sin(_ANGLES))


@functools.cache
def _spline(count: int, steps: int = 5) -> np.ndarray:
  """Weights of `count` knots in each point of a Catmull-Rom curve."""
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
      # The end knots stand in for the neighbours that they lack.
      knot = min(max(segment + offset - 1, 0), count - 1)
      weights[rows, knot] += 0.5 * weight
  weights[-1, -1] = 1.0
  return weights


def smooth(knots: Points) -> Points:
  """Catmull-Rom curve through the knots, in order, ends included."""
  return _spline(len(knots)) @ knots


def mirrored(half: Points) -> Points:
  """A curve that starts on the axis x = 0, with its mirror image before it."""
  return np.concatenate([half[:0:-1] * (-1, 1), half])


def symmetric(*pairs: Sequence[Number]) -> Points:
  """Smooth symmetric curve from the (x, y) knots of its right half."""
  return smooth(mirrored(points(*pairs)))


def ellipse(x: Number, y: Number, rx: Number, ry: Number) -> Points:
  """Outline of an ellipse with centre (x, y) and half axes rx, ry."""
  return _CIRCLE * (rx, ry) + (x, y)


@functools.cache
def _fourth_powers(count: int) -> np.ndarray:
  return np.linspace(-1, 1, count) ** 4


def ribbon(centre: Points, width: float, taper: float = 0.0) -> Points:
  """Outline of a stroke, thick in y, whose ends thin down by `taper`."""
  half = 0.5 * width * (1 - taper * _fourth_powers(len(centre)))
  outline = np.concatenate([centre, centre[::-1]])
  outline[: len(centre), 1] -= half
  outline[len(centre) :, 1] += half
  return outline


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
  """Colour on the line from `first` (share 0) to `second` (share 1)."""
  (r, g, b), (red, green, blue) = first, second
  return (
    round(r + (red - r) * share),
    round(g + (green - g) * share),
    round(b + (blue - b) * share),
  )


def palette(stops: Sequence[Rgb], position: float) -> Rgb:
  """Colour at `position` in [0, 1] on the path through equally spaced stops."""
  scaled = position * (len(stops) - 1)
  left = min(int(scaled), len(stops) - 2)
  return mix(stops[left], stops[left + 1], scaled - left)


def hsv(hue: float, saturation: float, value: float) -> Rgb:
  """Colour from hue, saturation and value in [0, 1]."""
  r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
  return round(255 * r), round(255 * g), round(255 * b)


class Canvas:
  """The image being drawn, `_OVERSAMPLING` times too large."""

  def __init__(self, corners: Sequence[Rgb]):
    """Starts from a smooth background through four corner colours."""
    image = Image.fromarray(np.array(corners, np.uint8).reshape(2, 2, 3))
    # The box runs from centre to centre of the four, so none is flat.
    image = image.resize(
      (SIZE, SIZE), Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5)
    )
    side = SIZE * _OVERSAMPLING
    self._image = image.resize((side, side), Image.Resampling.NEAREST)
    self.opaque = ImageDraw.Draw(self._image)
    self.translucent = ImageDraw.Draw(self._image, "RGBA")

  def finish(self) -> Float[np.ndarray, "h w c"]:
    """The image at its own size, in [0, 255]."""
    return np.asarray(self._image.reduce(_OVERSAMPLING), dtype=np.float64)


class Pen:
  """Fills shapes given around the centre of a head.

  Attributes:
    rx: half width of the head.
    ry: half height of the head.
    turn: sine of the yaw; what lies at depth z moves by z * turn.
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
    """Takes the half axes in pixels, yaw and roll in radians."""
    self.rx = rx
    self.ry = ry
    self.turn = float(np.sin(yaw))
    self._cos = float(np.cos(yaw))
    self._curvature = np.array([1 / rx**2, 0.6 / ry**2])
    self._canvas = canvas
    c, s = float(np.cos(roll)), float(np.sin(roll))
    self._rotation = np.array([[c, s], [-s, c]]) * (_OVERSAMPLING * _ZOOM)
    # The head tilts around the top of the neck.
    pivot = np.array([0.0, 14.0])
    centre = 0.5 * SIZE * _OVERSAMPLING
    self._origin = (
      pivot * _OVERSAMPLING * _ZOOM + centre - pivot @ self._rotation
    )

  def surface(self, flat: Points, lift: float = 0.0) -> Points:
    """Points of a face seen from the front, moved as the head turns.

    The head is an ellipsoid: (x, y) has depth z = 12 sqrt(1 - (x/rx)^2 -
    0.6 (y/ry)^2) + lift, and yaw takes x to x cos + z sin.

    Args:
      flat: points on the front view of the face.
      lift: height above the ellipsoid, in pixels.

    Returns:
      The points as seen.
    """
    inside = 1 - (flat * flat) @ self._curvature
    z = 12 * np.sqrt(np.maximum(inside, 0)) + lift
    seen = flat.copy()
    seen[:, 0] = flat[:, 0] * self._cos + z * self.turn
    return seen

  def fill(self, shape: Points, colour: Rgb, opacity: float = 1.0) -> None:
    """Fills a closed shape."""
    flat = (shape @ self._rotation + self._origin).ravel().tolist()
    # Blending costs time, which most shapes need not spend.
    if opacity < 1:
      fill = (*colour, round(255 * opacity))
      self._canvas.translucent.polygon(flat, fill=fill)
    else:
      self._canvas.opaque.polygon(flat, fill=colour)

  def line(self, path: Points, colour: Rgb, width: float) -> None:
    """Draws an open line of one width, in pixels."""
    flat = (path @ self._rotation + self._origin).ravel().tolist()
    thickness = max(1, round(width * _OVERSAMPLING * _ZOOM))
    self._canvas.opaque.line(flat, fill=colour, width=thickness, joint="curve")

  def glow(self, shape: Points, colour: Rgb, opacity: float) -> None:
    """Fills a shape that fades from its middle to its edge."""
    middle = shape.mean(axis=0)
    for size in (1.0, 0.7, 0.4):
      self.fill(middle + (shape - middle) * size, colour, opacity / 3)
