"""Hair, beards, glasses and hats of drawn faces."""

import numpy as np

from vae_jax.data.synthetic_faces import factors
from vae_jax.data.synthetic_faces import pen as pen_lib
from vae_jax.data.synthetic_faces.factors import Named
from vae_jax.data.synthetic_faces.pen import Pen, Points, Rgb, mix

_HAIR = pen_lib.colors("1e191b 462c1e 704426 a65224 d69e54 f0d28a")
_GRAY = (186, 186, 192)
_INK = (24, 22, 28)

# Front hairlines from the right to the left temple, as (share of the half
# width, y).
_HAIRLINES = {
  "receding": pen_lib.symmetric(
    (0, -11.6), (-0.4, -13.6), (-0.72, -13.2), (-0.9, -8), (-0.98, -3)
  ),
  "crop": pen_lib.symmetric(
    (0, -10.9), (-0.4, -10.6), (-0.78, -9.2), (-0.93, -5.5), (-0.98, -1.5)
  ),
  "side_part": pen_lib.smooth(
    pen_lib.points(
      (0.99, -1),
      (0.96, -5),
      (0.88, -9.2),
      (0.6, -12.6),
      (0.42, -13.6),
      (0.1, -11.2),
      (-0.4, -8.8),
      (-0.86, -5),
      (-0.99, -1),
    )  # fmt: skip
  ),
  "centre_part": pen_lib.symmetric(
    (0, -14.2), (-0.36, -11.4), (-0.74, -8), (-0.94, -3.5), (-0.99, 0)
  ),
  "curly": pen_lib.symmetric(
    (0, -10.4), (-0.36, -10.8), (-0.72, -9.4), (-0.92, -5.5), (-0.98, -1)
  ),
  "bun": pen_lib.symmetric(
    (0, -12.4), (-0.4, -12), (-0.76, -10), (-0.93, -6), (-0.98, -2)
  ),
}
_PARTING = {"side_part": 0.42, "centre_part": 0.0}
_LIFT = {
  "receding": 1.03,
  "crop": 1.09,
  "side_part": 1.15,
  "centre_part": 1.13,
  "curly": 1.12,
  "bun": 1.07,
}
_UPPER_LIP = pen_lib.ribbon(
  pen_lib.symmetric((0, 6.9), (2.8, 7.2), (5.5, 8.0)), 1.8
)
_GOATEE = pen_lib.symmetric(
  (0, 13.6), (2.4, 13.3), (4.2, 14.6), (3.2, 18), (0, 19.2)
)
_MUSTACHE = pen_lib.ribbon(
  pen_lib.symmetric((0, 7.0), (2.4, 6.7), (5.2, 8.2), (7.4, 10.2)), 2.5, 0.95
)


def color(f: Named) -> Rgb:
  """Returns the color of hair, brows and beard."""
  pigment = pen_lib.palette(_HAIR, f["hair_colour"])
  return mix(pigment, _GRAY, f["hair_greyness"])


def hides_ears(f: Named) -> bool:
  """Returns whether hair covers the ears."""
  return f["hair_style"] == "curly" or factors.has_locks(f)


def _hem(f: Named) -> float:
  return 1.0 + 25.0 * f["hair_length"]


def _crown(pen: Pen, lift: float, low: float) -> Points:
  """Returns the head's upper outline, scaled by `lift`, down to y = low."""
  start = np.arcsin(low / pen.ry)
  angles = np.linspace(start, -np.pi - start, 25)
  x, y = lift * pen.rx * np.cos(angles), lift * pen.ry * np.sin(angles)
  # A turned head shows more of its back.
  back = -2.0 * pen.turn * np.clip(-y / pen.ry, 0, 1)
  return pen_lib.curve(x + back, y)


def _waves(f: Named, y: np.ndarray) -> np.ndarray:
  return 1.5 * f["hair_wave"] * np.sin(0.85 * y)


def _curls(pen: Pen, f: Named, shade: float, radius: float) -> None:
  hem = 1.0 + 15.0 * f["hair_length"]
  top = -9.0 if f["hat"] != "none" else -pen.ry
  # Two staggered columns hang down each side.
  sides = np.arange(-7.0, hem, 2.3)
  stagger = 1.4 * (np.arange(len(sides)) % 2)
  angles = np.linspace(-0.15, np.pi + 0.15, 16)
  arc = pen_lib.curve(np.cos(angles), -np.sin(angles))
  arc = arc * (pen.rx + 0.6, pen.ry + 0.2)
  right = pen_lib.curve(pen.rx + stagger, sides)
  tints = [mix(color(f), _INK, shade + s) for s in (0, 0.1, 0.05)]
  shine = mix(tints[0], (255, 240, 220), 0.35)
  places = np.concatenate([arc, right, right * (-1, 1)]).tolist()
  for number, (x, y) in enumerate(places):
    if y < top:
      continue
    # Three sizes in turn, so that the outline does not look like beads.
    size = radius * (0.85, 1.1, 0.95)[number % 3]
    tint = tints[number % 3]
    pen.fill(pen_lib.ellipse(x - pen.turn, y, size, size), tint)
    gleam = pen_lib.ellipse(x - 0.5, y - 0.7, 0.55 * size, 0.5 * size)
    pen.fill(gleam, shine, 0.3)


def back(pen: Pen, f: Named) -> None:
  """Draws the hair behind the face and the neck."""
  style = f["hair_style"]
  shade = mix(color(f), _INK, 0.38)
  if style == "bun" and f["hat"] == "none":
    knot = pen_lib.ellipse(-1.5 * pen.turn, -pen.ry - 3.4, 5.2, 4.6)
    pen.fill(knot, mix(color(f), _INK, 0.2))
    pen.fill(knot * 0.72 + (-0.6, -6.4), color(f))
  if style == "curly":
    _curls(pen, f, 0.3, 4.2)
  if not factors.has_locks(f):
    return
  hem = _hem(f)
  y = np.linspace(-8, hem, 14)
  spread = pen.rx + 2.2 + 2.2 * f["hair_length"] * np.clip(y / 20, 0, 1)
  right = pen_lib.curve(spread + _waves(f, y), y)
  left = pen_lib.curve(-spread + _waves(f, y + 1.8), y)
  bottom = pen_lib.points((pen.rx * 0.7, hem + 1.5), (-pen.rx * 0.7, hem + 1.5))
  outline = np.concatenate([right, bottom, left[::-1]])
  pen.fill(outline - (1.2 * pen.turn, 0), shade)


def front(pen: Pen, f: Named) -> None:
  """Draws the hair in front: top, bangs and locks at the sides."""
  style = f["hair_style"]
  if style == "bald":
    return
  tint = color(f)
  dark = mix(tint, _INK, 0.3)
  shine = mix(tint, (255, 240, 220), 0.3)
  line = pen.surface(_HAIRLINES[style] * (pen.rx, 1.0))
  outer = _crown(pen, _LIFT[style], -2.0)
  # The hairline on the far side of a turned head is hidden.
  edge = pen.rx * np.sqrt(np.maximum(1 - (line[:, 1] / pen.ry) ** 2, 0))
  line[:, 0] = np.clip(line[:, 0], -edge, edge)
  if style == "curly":
    _curls(pen, f, 0.0, 3.0)
  pen.fill(np.concatenate([outer, line[::-1]]), tint)
  if style not in ("curly", "receding"):
    _strands(pen, f, outer, line, dark, shine)
  if f["bangs"] == "yes":
    _bangs(pen, f, tint, dark)
  if factors.has_locks(f):
    _locks(pen, f, tint, dark, shine)


def _strands(
  pen: Pen, f: Named, outer: Points, line: Points, dark: Rgb, shine: Rgb
) -> None:
  part = _PARTING.get(f["hair_style"], 0.0) * pen.rx
  root = pen.surface(pen_lib.points((part, -pen.ry * 0.82)))[0]
  for number in range(2, 23, 3):
    tip = outer[number] * 0.97
    middle = 0.5 * (root + tip) + (0, -2.0 + 1.2 * f["hair_wave"])
    strand = pen_lib.smooth(np.stack([root, middle, tip]))
    lit = number % 2
    pen.line(strand, mix(shine if lit else dark, dark, 0.25), 0.45)
  rows = 0.6 * outer[4:21] + 0.4 * root
  pen.fill(pen_lib.ribbon(rows, 2.2, 1.0), shine, 0.35)


def _bangs(pen: Pen, f: Named, tint: Rgb, dark: Rgb) -> None:
  width = 0.86 * pen.rx
  if f["hair_style"] == "curly":
    for number, x in enumerate(np.linspace(-0.8, 0.8, 7) * width):
      y = -9.4 + 1.1 * (number % 2) + 1.6 * (x / width) ** 2
      middle = pen.surface(pen_lib.points((x, y)))[0]
      pen.fill(pen_lib.ellipse(*middle, 2.5, 2.5), tint)
    return
  low = -8.6 if f["hair_style"] == "crop" else -6.6
  x = np.linspace(-1, 1, 15)
  y = low + 2.2 * x**4 - 0.9 * (np.arange(15) % 2)
  hem = pen_lib.curve(x * width, y)
  roof = pen_lib.curve(x[::-1] * width * 0.9, np.full(15, -13.0))
  pen.fill(pen.surface(np.concatenate([hem, roof])), tint)
  for step in range(1, 14, 2):
    strand = np.stack([hem[step], hem[step] * (0.8, 1) - (0, 4.5)])
    pen.line(pen.surface(strand), dark, 0.4)


def _locks(pen: Pen, f: Named, tint: Rgb, dark: Rgb, shine: Rgb) -> None:
  hem = _hem(f)
  y = np.linspace(-6, hem, 14)
  wave = _waves(f, y)
  spread = np.clip(y / 20, 0, 1) * 1.8 * f["hair_length"]
  for side in (-1, 1):
    # The near lock of a turned head covers more of the cheek.
    near = -4.0 * side * pen.turn
    outer = pen.rx + 2.0 + spread + wave * side
    inner = pen.rx * 0.9 - near - 1.2 * np.clip(y / 12, 0, 1) + wave * side
    lock = np.concatenate(
      [pen_lib.curve(side * outer, y), pen_lib.curve(side * inner, y)[::-1]]
    ) - (1.0 * pen.turn, 0)
    pen.fill(lock, tint)
    for share, ink in ((0.3, dark), (0.65, shine)):
      x = side * (share * outer + (1 - share) * inner) - pen.turn
      pen.line(pen_lib.curve(x, y)[2:], ink, 0.45)


def beard(pen: Pen, f: Named, outline: Points) -> None:
  """Draws beard and mustache within the head's outline, under the mouth."""
  tint = mix(color(f), _INK, 0.12)
  if f["beard"] in ("stubble", "full"):
    grown = f["beard"] == "full"
    jaw = outline[outline[:, 1] > 3.0]
    jaw = jaw * (1.04, 1.07) if grown else jaw
    r = pen.rx
    inner = pen_lib.symmetric(
      (0, 14.4), (3.4, 14.0), (5.8, 12.2), (6.6, 9.6), (r * 0.68, 8.2),
      (r * 0.86, 6.2), (r * 0.95, 2.0),
    )  # fmt: skip
    shape = np.concatenate([jaw, pen.surface(inner)])
    pen.fill(shape, tint, 1.0 if grown else 0.22)
    if not grown:
      pen.fill(pen.surface(_UPPER_LIP), tint, 0.22)
  if f["beard"] == "goatee":
    pen.fill(pen.surface(_GOATEE), tint)
  if f["moustache"] == "yes":
    pen.fill(pen.surface(_MUSTACHE, 1.0), tint)


def glasses(pen: Pen, f: Named) -> None:
  """Draws glasses over the eyes."""
  kind = f["glasses"]
  if kind == "none":
    return
  frame = (34, 32, 40) if kind != "round" else (112, 66, 34)
  r = pen.rx
  for side in (-1, 1):
    lens = pen_lib.ellipse(0, 0, 1, 1)
    if kind != "round":
      # The square root makes the circle a superellipse, nearly a square.
      lens = np.sign(lens) * np.sqrt(np.abs(lens))
    size = (4.4, 4.4) if kind == "round" else (4.7, 3.5)
    lens = pen.surface(lens * size + (side * 0.43 * r, -0.4), 1.0)
    if kind == "sun":
      pen.fill(lens, (28, 28, 36), 0.94)
      shine = pen_lib.points((-2.6, 0.6), (0.4, -2.6), (1.6, -2.6), (-1.4, 0.6))
      shine = pen.surface(shine + (side * 0.43 * r, -0.4), 1.0)
      pen.fill(shine, (150, 160, 185), 0.55)
    else:
      pen.fill(lens, (225, 240, 255), 0.14)
    pen.line(np.concatenate([lens, lens[:2]]), frame, 0.85)
    arm = pen_lib.points((side * (0.43 * r + 4.5), -1.4), (side * r, -2.0))
    pen.line(pen.surface(arm, 0.6), frame, 0.8)
  bridge = pen_lib.points((-1.8, -0.9), (0, -1.7), (1.8, -0.9))
  pen.line(pen.surface(pen_lib.smooth(bridge), 1.5), frame, 0.8)


def hat(pen: Pen, f: Named) -> None:
  """Draws a hat over everything else."""
  kind = f["hat"]
  if kind == "none":
    return
  tint = pen_lib.hsv(f["hat_hue"], 0.62, 0.72)
  dark = mix(tint, _INK, 0.4)
  shine = mix(tint, (255, 255, 255), 0.3)
  r = pen.rx
  x = np.linspace(-1, 1, 17)
  edge = pen_lib.curve(x * r * 1.16, -9.0 - 1.4 * x**2)
  edge[:, 0] += 1.5 * pen.turn
  lift = {"beanie": 1.25, "cap": 1.17, "brim": 1.17}[kind]
  dome = _crown(pen, lift, -9.0)
  if kind == "beanie":
    bobble = pen_lib.ellipse(-2 * pen.turn, -pen.ry * lift - 0.6, 3.4, 3.0)
    pen.fill(bobble, shine)
  pen.fill(np.concatenate([dome, edge]), tint)
  pen.glow(pen_lib.ellipse(-3, -15.5, 6, 3.6) + (2 * pen.turn, 0), shine, 0.5)
  if kind == "beanie":
    pen.fill(pen_lib.ribbon(edge - (0, 1.2), 4.4), dark)
    for step in range(1, 16, 2):
      rib = np.stack([edge[step] - (0, 2.8), edge[step] + (0, 0.6)])
      pen.line(rib, tint, 0.6)
  elif kind == "cap":
    for seam in (-0.45, 0.45):
      curve = pen_lib.points(
        (0, -19.6), (seam * r, -15.5), (seam * r * 1.3, -10)
      )
      pen.line(pen_lib.smooth(curve) + (2.5 * pen.turn, 0), dark, 0.4)
    visor = pen_lib.curve(x * r * 0.98, -9.4 + 3.0 * np.sqrt(1 - x**2))
    roof = pen_lib.curve(x * r * 0.98, -9.4 - 1.8 * (1 - x**2))
    shape = np.concatenate([visor, roof[::-1]]) + (7.5 * pen.turn, 0)
    pen.fill(shape, dark)
    pen.line(visor + (7.5 * pen.turn, 0), mix(dark, _INK, 0.4), 0.5)
  else:
    brim = pen_lib.ellipse(2 * pen.turn, -9.4, r + 7.5, 2.9)
    pen.fill(brim, mix(tint, _INK, 0.12))
    pen.fill(brim * (0.97, 1.0) + (0, -0.7), tint)
    pen.fill(pen_lib.ribbon(edge * (0.9, 1.0) - (0, 2.4), 3.0), dark)
