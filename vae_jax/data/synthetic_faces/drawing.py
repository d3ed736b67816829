"""Draws a face from its factors: a pure function to a 64x64 RGB image."""

import pickle
import signal
import sys
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vae_jax.data.synthetic_faces import factors as face_factors
from vae_jax.data.synthetic_faces import hair
from vae_jax.data.synthetic_faces import pen as pen_lib
from vae_jax.data.synthetic_faces.factors import Named
from vae_jax.data.synthetic_faces.pen import Pen, Points, Rgb, mix

_SKIN = pen_lib.colors("ffe5d3 f9d1b4 e8b890 c99268 966444 624030")
_IRIS = pen_lib.colors("54341e 8c642c 54824a 3e78be 8494a0")
_INK = (34, 24, 28)
_WHITE = (255, 255, 255)

_NECK = pen_lib.symmetric((0, 8), (6, 9), (5.9, 17), (7.4, 20.5), (9, 26))
_SHOULDERS = pen_lib.symmetric(
  (0, 20), (7.2, 20.2), (15, 23), (22, 26.5), (27, 36)
)
_CHEST = pen_lib.points((13.5, 21.5), (14, 36), (-14, 36), (-13.5, 21.5))
_COLLARS = {
  "crew": pen_lib.symmetric((0, 24.0), (5.5, 22.8), (7.6, 19.4)),
  "v_neck": pen_lib.mirrored(
    pen_lib.points((0, 27.5), (5.0, 22.8), (7.6, 19.4))
  ),
  "tie": pen_lib.mirrored(pen_lib.points((0, 24.4), (5.2, 20.5), (6.4, 17.6))),
  "turtleneck": pen_lib.symmetric((0, 18.6), (4.5, 18.0), (6.6, 16.6)),
}
_SHIRT = pen_lib.points(
  (6.4, 17.6), (9.2, 21.4), (3, 34), (-3, 34), (-9.2, 21.4), (-6.4, 17.6),
  (0, 23.2),
)  # fmt: skip
_KNOT = pen_lib.points((-1.9, 22.4), (1.9, 22.4), (1.3, 24.8), (-1.3, 24.8))
_TIE = pen_lib.points((-1.2, 24.8), (1.2, 24.8), (2.6, 34), (-2.6, 34))

# Positions from left to right along an eye and along the mouth, and parabolas
# that are 0 at both ends.
_ALONG_EYE = np.linspace(-1, 1, 11)
_EYE_BOW = 1 - _ALONG_EYE**2
_ALONG_MOUTH = np.linspace(-1, 1, 17)
_MOUTH_BOW = 1 - _ALONG_MOUTH**2
_UPPER_BOW = _MOUTH_BOW**0.6 * (1 - 0.3 * np.exp(-((_ALONG_MOUTH / 0.16) ** 2)))
_LOWER_BOW = _MOUTH_BOW**0.7
_ACROSS = np.tanh(np.linspace(-1.5, 1.5, pen_lib.SIZE))[None, :, None]


def draw(factors: Mapping[str, float | int]) -> UInt8[np.ndarray, "64 64 3"]:
  """Draws a face; equal factors, of `named`'s form, give equal images."""
  f = face_factors.named(factors)
  canvas = pen_lib.Canvas(_background(f))
  axes = {"rx": 12.3 + 2.6 * f["face_width"], "ry": 17.0}
  body = Pen(canvas, **axes)
  head = Pen(
    canvas,
    **axes,
    yaw=np.deg2rad(26.0) * f["head_turn"],
    roll=np.deg2rad(9.0) * f["head_tilt"],
  )
  skin = pen_lib.palette(_SKIN, f["skin_tone"])
  outline = _outline(head, f["jaw"])
  far = 1 if f["head_turn"] > 0 else -1
  hair.back(head, f)
  _body(body, f, skin)
  _ear(head, skin, far)
  _head(head, f, skin, outline)
  hair.beard(head, f, outline)
  _mouth(head, f, skin)
  _nose(head, f, skin)
  for side in (-1, 1):
    _eye(head, f, skin, side)
    _brow(head, f, side)
  if hair.hides_ears(f):
    hair.glasses(head, f)
    hair.front(head, f)
  else:
    hair.front(head, f)
    _ear(head, skin, -far)
    hair.glasses(head, f)
  hair.hat(head, f)
  return _lit(canvas.finish(), f["light"])


def png(factors: Mapping[str, float | int]) -> bytes:
  """Draws a face and encodes it as PNG."""
  # With OpenCV, which is three times as fast as Pillow.
  bgr = np.ascontiguousarray(draw(factors)[:, :, ::-1])
  return cv2.imencode(".png", bgr)[1].tobytes()


def stream(split: str, first: int, size: int, step: int) -> None:
  """Writes the faces range(first, size, step) of a split to standard output,
  as pickled PNG."""
  # The default handlers, to end without a traceback when the reader ends.
  for number in (signal.SIGPIPE, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)
  for index in range(first, size, step):
    factors = face_factors.sample_factors(split, index)
    pickle.dump(png(factors), sys.stdout.buffer)


def _background(f: Named) -> list[Rgb]:
  value = 0.45 + 0.45 * f["background_light"]
  high = pen_lib.hsv(f["background_hue"], 0.34, value)
  low = pen_lib.hsv((f["background_hue"] + 0.04) % 1, 0.5, 0.72 * value)
  return [high, mix(high, low, 0.3), mix(high, low, 0.7), low]


def _lit(
  image: Float[np.ndarray, "64 64 3"], light: float
) -> UInt8[np.ndarray, "64 64 3"]:
  # A lamp at one side: the brightness decreases across the image.
  gain = 1.0 + 0.16 * light * _ACROSS
  return np.clip(image * gain + 0.5, 0, 255).astype(np.uint8)


def _outline(pen: Pen, jaw: float) -> Points:
  """Returns the outline of the head: an ellipse above, jaw and chin below."""
  angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
  c, s = np.cos(angles), np.sin(angles)
  low = np.maximum(s, 0)
  # The lower half is a superellipse, whose exponent makes it pointed or square.
  squareness = 1.0 + (0.1 - 0.28 * jaw) * low
  width = np.sign(c) * np.abs(c) ** squareness * (1 - 0.1 * low)
  # In a turned head, the chin is ahead of the center and the skull behind it.
  lean = 5.0 * low**1.5 - 2.0 * np.maximum(-s, 0)
  return pen_lib.curve(pen.rx * width + pen.turn * lean, pen.ry * s)


def _head(pen: Pen, f: Named, skin: Rgb, outline: Points) -> None:
  edge = mix(skin, (120, 50, 40), 0.3)
  middle = outline.mean(axis=0)
  pen.fill(outline, edge)
  for scale, share in ((0.965, 0.6), (0.93, 0.25), (0.88, 0.0)):
    inset = middle + (outline - middle) * scale + (0, -0.3)
    pen.fill(inset, mix(skin, edge, share))
  shine = mix(skin, _WHITE, 0.5)
  brow = pen_lib.ellipse(-1.5, -8.5, 6.5, 3.2)
  pen.glow(pen.surface(brow), shine, 0.3)
  for side in (-1, 1):
    cheek = pen.surface(pen_lib.ellipse(side * pen.rx * 0.6, 5.6, 3.6, 3.0))
    pen.glow(cheek, (232, 78, 84), 0.6 * f["rosiness"])


def _ear(pen: Pen, skin: Rgb, side: int) -> None:
  shadow = mix(skin, (120, 40, 36), 0.38)
  x = side * (pen.rx + 0.5) * np.sqrt(1 - pen.turn**2) - 1.5 * pen.turn
  pen.fill(pen_lib.ellipse(x, 0.8, 2.4, 3.6), mix(skin, shadow, 0.5))
  pen.fill(pen_lib.ellipse(x - 0.25 * side, 0.7, 1.9, 3.1), skin)
  pen.fill(pen_lib.ellipse(x + 0.2 * side, 0.9, 0.9, 1.9), shadow, 0.6)


def _body(pen: Pen, f: Named, skin: Rgb) -> None:
  shade = mix(skin, (110, 50, 40), 0.3)
  kind = f["clothes"]
  cloth = pen_lib.hsv(f["clothes_hue"], 0.55, 0.66)
  dark = mix(cloth, _INK, 0.35)
  if kind == "tie":
    cloth = mix(cloth, (40, 42, 52), 0.7)
    dark = mix(cloth, _INK, 0.4)
  pen.fill(_SHOULDERS, cloth)
  pen.fill(_NECK, skin)
  pen.fill(pen_lib.ellipse(0, 14.6, 6.0, 5.6), shade)
  edge = _COLLARS[kind]
  reach = _CHEST * (0.64, 1) if kind == "turtleneck" else _CHEST
  pen.fill(np.concatenate([edge, reach]), cloth)
  if kind != "tie":
    pen.line(edge + (0, 0.5), dark, 0.9)
    return
  pen.fill(_SHIRT, (240, 241, 245))
  pen.line(_SHIRT[1:3], dark, 0.6)
  pen.line(_SHIRT[3:5], dark, 0.6)
  tie = pen_lib.hsv(f["clothes_hue"], 0.75, 0.7)
  pen.fill(_KNOT, tie)
  pen.fill(_TIE, mix(tie, _INK, 0.18))


def _eye(pen: Pen, f: Named, skin: Rgb, side: int) -> None:
  x = side * 0.43 * pen.rx
  upper = 0.7 + 2.1 * f["eye_open"]
  lower = 0.5 + 1.05 * f["eye_open"]
  lid = pen_lib.curve(x + 3.5 * _ALONG_EYE, -0.6 - upper * _EYE_BOW)
  rim = pen_lib.curve(x + 3.5 * _ALONG_EYE, -0.6 + lower * _EYE_BOW)
  shade = mix(skin, (90, 30, 30), 0.42)
  socket = pen_lib.ellipse(x, -1.0, 4.3, 3.4)
  pen.glow(pen.surface(socket), shade, 0.35)
  pen.fill(pen.surface(np.concatenate([lid, rim[::-1]])), (250, 249, 247))
  for radius, tint in (
    (2.15, pen_lib.palette(_IRIS, f["eye_colour"])),
    (1.1, (16, 14, 18)),
  ):
    disc = pen_lib.ellipse(x + 0.8 * f["gaze"], -0.9, radius, radius)
    bow = 1 - ((disc[:, 0] - x) / 3.5) ** 2
    # The lids cover the rest of the disc.
    y = np.maximum(disc[:, 1], -0.6 - upper * bow)
    disc[:, 1] = np.minimum(y, -0.6 + lower * bow)
    pen.fill(pen.surface(disc), tint)
  spark = pen_lib.ellipse(x + 0.8 * f["gaze"] + 0.6, -1.5, 0.55, 0.5)
  pen.fill(pen.surface(spark), _WHITE, min(1.0, 0.3 + f["eye_open"]))
  pen.fill(pen.surface(pen_lib.ribbon(lid, 0.85, 0.5)), _INK)
  pen.fill(pen.surface(pen_lib.ribbon(rim, 0.4, 0.5)), shade)
  crease = lid[1:-1] - (0, 1.25)
  pen.fill(pen.surface(pen_lib.ribbon(crease, 0.5, 0.9)), shade)


def _brow(pen: Pen, f: Named, side: int) -> None:
  arch = f["brow_arch"]
  curve = pen_lib.smooth(
    pen_lib.points(
      (2.2, -4.9 + 0.4 * arch),
      (4.6, -5.5 - 1.0 * arch),
      (6.6, -5.6 - 2.0 * arch),
      (9.4, -4.6 + 0.5 * arch),
    )
    * (side * pen.rx / 14, 1)
  )
  stroke = pen_lib.ribbon(curve, 0.7 + 1.9 * f["brow_thickness"], 0.7)
  ink = mix(hair.color(f), _INK, 0.3)
  pen.fill(pen.surface(stroke), ink, 0.92)


def _nose(pen: Pen, f: Named, skin: Rgb) -> None:
  size = f["nose_size"]
  shade = mix(skin, (100, 36, 30), 0.42)
  shine = mix(skin, _WHITE, 0.6)
  wide, tip = 1.7 + 1.5 * size, 4.0 + 1.0 * size
  # The side away from the lamp is in the shadow.
  side = -1 if f["light"] > 0 else 1
  ridge = pen_lib.points(
    (0.9, -2.5), (1.0, 0.5), (wide * 0.8, tip - 1.2), (wide, tip), (0.4, tip)
  )
  pen.fill(
    pen.surface(pen_lib.smooth(ridge * (side, 1)), 2.0),
    shade,
    0.4 * abs(f["light"]),
  )
  ball = pen_lib.ellipse(0, tip - 0.9, wide * 0.75, 1.5 + 0.5 * size)
  pen.glow(pen.surface(ball, 3.0), shine, 0.5)
  base = pen_lib.mirrored(
    pen_lib.points((0, tip + 0.7), (wide * 0.55, tip + 0.5), (wide, tip - 0.5))
  )
  base = pen_lib.ribbon(pen_lib.smooth(base), 0.8, 0.7)
  pen.fill(pen.surface(base, 2.0), shade)
  for nostril in (-0.5, 0.5):
    hole = pen_lib.ellipse(nostril * wide, tip + 0.3, 0.28 * wide, 0.4)
    pen.fill(pen.surface(hole, 2.0), mix(shade, _INK, 0.5))


def _mouth(pen: Pen, f: Named, skin: Rgb) -> None:
  smile, gap = f["smile"], 3.6 * f["mouth_open"]
  half = (5.5 + 1.5 * smile) * pen.rx / 14
  bow = _MOUTH_BOW
  # The corners rise as the middle sinks; teeth and tongue fill the gap.
  line = 9.9 + 3.1 * smile * (bow - 0.6)
  upper = line - 0.25 * gap * bow
  lower = line + 0.75 * gap * bow
  x = half * _ALONG_MOUTH
  lip = mix(skin, (176, 52, 62), 0.5)
  if f["lipstick"] == "yes":
    lip = (196, 30, 58)
  thick = 0.6 + 1.1 * f["lip_fullness"]

  def between(high, low):
    high, low = pen_lib.curve(x, high), pen_lib.curve(x, low)
    return pen.surface(np.concatenate([high, low[::-1]]), 1.0)

  top = upper - thick * _UPPER_BOW
  bottom = lower + 1.25 * thick * _LOWER_BOW
  pen.fill(
    between(bottom, bottom + 0.9 * bow), mix(skin, (90, 30, 30), 0.4), 0.4
  )
  pen.fill(between(top, bottom), lip)
  pen.fill(between(upper, lower), (88, 20, 30))
  tongue = lower - 0.3 * gap * bow**2
  pen.fill(between(tongue, lower), (214, 92, 98))
  teeth = upper + (0.38 + 0.17 * smile) * gap * bow
  pen.fill(between(upper, teeth), (252, 250, 244))
  pen.fill(
    between(line - 0.25 * bow, line + 0.25 * bow), _INK, 0.7 * max(0.0, 1 - gap)
  )
  pen.fill(
    between(lower + 0.3 * thick, lower + 0.75 * thick),
    mix(lip, _WHITE, 0.5),
    0.35,
  )
  fold = pen_lib.points(
    (3.4, 4.6), (half + 1.6, line[0] - 2.4), (half + 1.9, line[0])
  )
  for side in (-1, 1):
    crease = pen_lib.ribbon(pen_lib.smooth(fold * (side, 1)), 0.9, 0.8)
    pen.fill(
      pen.surface(crease, 1.0),
      mix(skin, (110, 40, 36), 0.4),
      0.4 * max(0.0, smile),
    )
    corner = pen_lib.ellipse(side * half, line[0], 0.8, 0.7)
    pen.fill(pen.surface(corner, 1.0), mix(lip, _INK, 0.45), 0.7)
