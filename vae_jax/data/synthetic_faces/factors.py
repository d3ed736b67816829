"""Ground-truth factors of the drawn faces, and their distributions.

Each factor is a function of its own uniform random number, so that all factors
are independent. CelebA's attributes are deterministic functions of them.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Continuous:
  """A real factor, `low + (high - low) * u**power` with `u ~ U[0, 1)`.

  Attributes:
    doc: appearance of the two ends.
    low: smallest value.
    high: largest value.
    power: 1 is uniform; above 1, low values are more frequent.
  """

  doc: str
  low: float = 0.0
  high: float = 1.0
  power: float = 1.0

  def quantile(self, u: float) -> float:
    """Returns the value at `u` in [0, 1), rounded to the stored float32."""
    value = self.low + (self.high - self.low) * u**self.power
    return float(np.float32(value))


@dataclasses.dataclass(frozen=True)
class Discrete:
  """A factor with named values, stored as the position in `names`; `weights`
  are their probabilities, and `doc` is the part of the image that changes."""

  names: tuple[str, ...]
  weights: tuple[float, ...]
  doc: str

  def quantile(self, u: float) -> int:
    """Returns the position in `names` of the value at `u` in [0, 1)."""
    position = np.searchsorted(np.cumsum(self.weights), u, side="right")
    return min(int(position), len(self.names) - 1)


# Names and order are part of the stored data set. Factor k is a function of the
# k-th uniform number of an example, so that a new factor belongs at the end.
FACTORS: dict[str, Continuous | Discrete] = {
  "smile": Continuous("mouth corners: down and sad, to up and happy", low=-1.0),
  "mouth_open": Continuous("gap between the lips: none, to wide", power=2.0),
  "lip_fullness": Continuous("height of the lips: thin to full"),
  "lipstick": Discrete(("no", "yes"), (0.75, 0.25), "red lips"),
  "head_turn": Continuous("yaw, in units of 26 degrees; 1 is right", low=-1.0),
  "head_tilt": Continuous(
    "roll, in units of 9 degrees; 1 is clockwise", low=-1.0
  ),
  "face_width": Continuous("half width of the head: 14.8 to 17.9 pixels"),
  "jaw": Continuous("jaw line: pointed to square"),
  "skin_tone": Continuous("palette of six: palest to darkest"),
  "rosiness": Continuous("opacity of the red on the cheeks", power=1.5),
  "eye_open": Continuous("height of the eyes: narrow to wide"),
  "eye_colour": Continuous("iris: brown, hazel, green, blue, gray"),
  "gaze": Continuous("iris offset, in units of 1 pixel; 1 is right", low=-1.0),
  "brow_thickness": Continuous("thin to bushy"),
  "brow_arch": Continuous("flat to arched"),
  "nose_size": Continuous("width and length: small to big"),
  "hair_style": Discrete(
    ("bald", "receding", "crop", "side_part", "centre_part", "curly", "bun"),
    (0.08, 0.08, 0.18, 0.22, 0.18, 0.14, 0.12),
    "cut; the parted ones and the curls have a length",
  ),
  "hair_length": Continuous("parted and curly hair: ears to shoulders"),
  "hair_wave": Continuous("parted hair: straight to wavy"),
  "hair_colour": Continuous("black, brown, chestnut, red, blond"),
  "hair_greyness": Continuous("blend of that color with gray", power=3.0),
  "bangs": Discrete(("no", "yes"), (0.7, 0.3), "bangs, if the cut has them"),
  "beard": Discrete(
    ("none", "stubble", "goatee", "full"),
    (0.64, 0.1, 0.12, 0.14),
    "hair on chin and jaw",
  ),
  "moustache": Discrete(("no", "yes"), (0.82, 0.18), "hair on the upper lip"),
  "glasses": Discrete(
    ("none", "round", "square", "sun"), (0.74, 0.1, 0.1, 0.06), "eyewear"
  ),
  "hat": Discrete(
    ("none", "beanie", "cap", "brim"), (0.8, 0.07, 0.07, 0.06), "headwear"
  ),
  "hat_hue": Continuous("hue of the hat, once around the circle"),
  "clothes": Discrete(
    ("crew", "v_neck", "tie", "turtleneck"),
    (0.35, 0.25, 0.15, 0.25),
    "neckline; the tie comes with a shirt and a jacket",
  ),
  "clothes_hue": Continuous("hue of clothes, once around the circle"),
  "background_hue": Continuous("hue behind, once around the circle"),
  "background_light": Continuous("brightness behind: dark to bright"),
  "light": Continuous("side the light comes from: left to right", low=-1.0),
}

# Factors with the discrete ones by name, as `named` returns them.
Named = Mapping[str, float | str]

# Each split has another random stream.
SPLITS = ("train", "validation", "test")

# Hair styles that can have bangs.
_WITH_BANGS = ("crop", "side_part", "centre_part", "curly", "bun")


def sample_factors(split: str, index: int) -> dict[str, float | int]:
  """Draws a value for each of `FACTORS`, a float or the position of a name: a
  pure function of the split ("train", "validation" or "test") and the position
  in it."""
  if split not in SPLITS:
    raise ValueError(f"split is {split!r}; it must be one of {list(SPLITS)}.")
  if index < 0:
    raise ValueError(f"index is {index}; it must be 0 or more.")
  uniforms = np.random.default_rng((SPLITS.index(split), index)).random(
    len(FACTORS)
  )
  return {
    name: factor.quantile(u)
    for (name, factor), u in zip(FACTORS.items(), uniforms, strict=True)
  }


def named(factors: Mapping[str, float | int]) -> dict[str, float | str]:
  """Replaces the values of discrete factors by their names.

  Raises:
    ValueError: a factor is missing, unknown or out of its range.
  """
  if set(factors) != set(FACTORS):
    wrong = sorted(set(factors) ^ set(FACTORS))
    raise ValueError(f"factors missing or unknown: {wrong}; see FACTORS.")
  values = {}
  for name, factor in FACTORS.items():
    value = factors[name]
    discrete = isinstance(factor, Discrete)
    last = len(factor.names) - 1 if discrete else None
    low, high = (0, last) if discrete else (factor.low, factor.high)
    if not low <= value <= high:
      raise ValueError(
        f"factor {name} is {value}; it must be from {low} to {high}."
      )
    values[name] = factor.names[int(value)] if discrete else float(value)
  return values


def has_locks(f: Named) -> bool:
  """Returns whether parted hair is long enough to frame the face."""
  parted = f["hair_style"] in ("side_part", "centre_part")
  return parted and f["hair_length"] > 0.25


def attributes(factors: Mapping[str, float | int]) -> dict[str, bool]:
  """Returns the attributes of a face by CelebA's names, in CelebA's order.

  An attribute is true only if it is visible: a hat hides baldness, bangs and a
  receding hairline, sunglasses hide narrow eyes, short hair has no waves, and a
  bald head has no hair color. CelebA's opinions about people (Attractive, Male,
  Young, Chubby, ...) are left out.
  """
  f = named(factors)
  haired = f["hair_style"] != "bald"
  gray = f["hair_greyness"] > 0.5
  hue = f["hair_colour"]
  bare_headed = f["hat"] == "none"
  values = {
    name: sign * f[factor] > sign * limit
    for name, (factor, sign, limit) in THRESHOLDS.items()
  } | {
    "5_o_Clock_Shadow": f["beard"] == "stubble",
    "Bald": bare_headed and not haired,
    "Bangs": bare_headed
    and f["bangs"] == "yes"
    and f["hair_style"] in _WITH_BANGS,
    "Black_Hair": haired and not gray and hue < 0.25,
    "Blond_Hair": haired and not gray and hue >= 0.8,
    "Brown_Hair": haired and not gray and 0.25 <= hue < 0.6,
    "Eyeglasses": f["glasses"] != "none",
    "Goatee": f["beard"] == "goatee",
    "Gray_Hair": haired and gray,
    "Mustache": f["moustache"] == "yes",
    "No_Beard": f["beard"] == "none",
    "Receding_Hairline": bare_headed and f["hair_style"] == "receding",
    "Straight_Hair": has_locks(f) and f["hair_wave"] < 0.35,
    "Wavy_Hair": f["hair_style"] == "curly"
    or (has_locks(f) and f["hair_wave"] > 0.6),
    "Wearing_Hat": not bare_headed,
    "Wearing_Lipstick": f["lipstick"] == "yes",
    "Wearing_Necktie": f["clothes"] == "tie",
  }
  values["Narrow_Eyes"] &= f["glasses"] != "sun"
  return dict(sorted(values.items()))


# Attributes that are thresholds of one real factor: the factor, whether values
# above (1) or below (-1) give the attribute, and the threshold.
THRESHOLDS = {
  "Arched_Eyebrows": ("brow_arch", 1, 0.6),
  "Big_Lips": ("lip_fullness", 1, 0.65),
  "Big_Nose": ("nose_size", 1, 0.65),
  "Bushy_Eyebrows": ("brow_thickness", 1, 0.65),
  "Mouth_Slightly_Open": ("mouth_open", 1, 0.2),
  "Narrow_Eyes": ("eye_open", -1, 0.25),
  "Pale_Skin": ("skin_tone", -1, 0.12),
  "Rosy_Cheeks": ("rosiness", 1, 0.5),
  "Smiling": ("smile", 1, 0.2),
}

ATTRIBUTES = tuple(
  attributes({name: factor.quantile(0.5) for name, factor in FACTORS.items()})
)
