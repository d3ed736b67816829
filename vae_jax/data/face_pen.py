"""Shapes, colours and a pen that draws them on a turned and tilted head.

Lengths are in units of `_ZOOM` pixels, x to the right and y down.
"""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

SIZE = 64
# Shapes are drawn this many times larger and averaged down: anti-aliasing.
_OVERSAMPLING = 4
_ZOOM = 1.2

Rgb = tuple[int, int, int]
Points = Float[np.ndarray, "_ 2"]


def _spline_basis(steps: int) -> np.ndarray:
  t = np.arange(steps) / steps
  return 0.5 * np.stack(
    [
      -(t**3) + 2 * t**2 - t,
      3 * t**3 - 5 * t**2 + 2,
      -3 * t**3 + 4 * t**2 + t,
      t**3 - t**2,
    ],
    axis=1,
  )


def points(*pairs: Sequence[float]) -> Points:
  """Array of points from (x, y) pairs."""
  return np.array(pairs, dtype=np.float64)


def curve(x: np.ndarray, y: np.ndarray) -> Points:
  """Array of points from their coordinates; either may be one number."""
  result = np.empty((max(np.size(x), np.size(y)), 2))
  result[:, 0] = x
  result[:, 1] = y
  return result


_BASIS = _spline_basis(5)
_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = curve(np.cos(_ANGLES), np.sin(_ANGLES))


def smooth(knots: Points) -> Points:
  """Catmull-Rom curve through the knots, in order, ends included."""
  padded = np.concatenate([knots[:1], knots, knots[-1:]])
  windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], 1)
  inner = (_BASIS @ windows).reshape(-1, 2)
  return np.concatenate([inner, knots[-1:]])


def mirrored(half: Points) -> Points:
  """A curve that starts on the axis x = 0, with its mirror image before it."""
  return np.concatenate([half[:0:-1] * (-1, 1), half])


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
  """Outline of an ellipse with centre (x, y) and half axes rx, ry."""
  return _CIRCLE * (rx, ry) + (x, y)


def ribbon(centre: Points, width: float, taper: float = 0.0) -> Points:
  """Outline of a stroke, thick in y, whose ends thin down by `taper`."""
  t = np.linspace(-1, 1, len(centre))
  half = 0.5 * width * (1 - taper * t**4)
  offset = curve(0.0, half)
  return np.concatenate([centre - offset, (centre + offset)[::-1]])


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
  """Colour on the line from `first` (share 0) to `second` (share 1)."""
  r, g, b = (
    round(p + (q - p) * share) for p, q in zip(first, second, strict=True)
  )
  return r, g, b


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
    x, y = flat[:, 0], flat[:, 1]
    inside = 1 - (x / self.rx) ** 2 - 0.6 * (y / self.ry) ** 2
    z = 12 * np.sqrt(np.maximum(inside, 0)) + lift
    return curve(x * self._cos + z * self.turn, y)

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
    for size in (1.0, 0.8, 0.6, 0.4):
      self.fill(middle + (shape - middle) * size, colour, opacity / 4)
