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
    low: smallest value.
    high: largest value.
    doc: appearance of the two ends.
    power: 1 is uniform; above 1, low values are more frequent.
  """

  low: float
  high: float
  doc: str
  power: float = 1.0

  def quantile(self, u: float) -> float:
    """Returns the value at `u` in [0, 1), rounded to the stored float32."""
    value = self.low + (self.high - self.low) * u**self.power
    return float(np.float32(value))


@dataclasses.dataclass(frozen=True)
class Discrete:
  """A factor with named values, stored as the position in `names`.

  Attributes:
    names: of the values.
    weights: probabilities of the values; they sum to 1.
    doc: the part of the image that it changes.
  """

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
  "smile": Continuous(
    -1.0, 1.0, "mouth corners: down and sad, to up and happy"
  ),
  "mouth_open": Continuous(
    0.0, 1.0, "gap between the lips: none, to wide", 2.0
  ),
  "lip_fullness": Continuous(0.0, 1.0, "height of the lips: thin to full"),
  "lipstick": Discrete(("no", "yes"), (0.75, 0.25), "red lips"),
  "head_turn": Continuous(-1.0, 1.0, "yaw, in units of 26 degrees; 1 is right"),
  "head_tilt": Continuous(
    -1.0, 1.0, "roll, in units of 9 degrees; 1 is clockwise"
  ),
  "face_width": Continuous(
    0.0, 1.0, "half width of the head: 14.8 to 17.9 pixels"
  ),
  "jaw": Continuous(0.0, 1.0, "jaw line: pointed to square"),
  "skin_tone": Continuous(0.0, 1.0, "palette of six: palest to darkest"),
  "rosiness": Continuous(0.0, 1.0, "opacity of the red on the cheeks", 1.5),
  "eye_open": Continuous(0.0, 1.0, "height of the eyes: narrow to wide"),
  "eye_colour": Continuous(0.0, 1.0, "iris: brown, hazel, green, blue, gray"),
  "gaze": Continuous(-1.0, 1.0, "iris offset, in units of 1 pixel; 1 is right"),
  "brow_thickness": Continuous(0.0, 1.0, "thin to bushy"),
  "brow_arch": Continuous(0.0, 1.0, "flat to arched"),
  "nose_size": Continuous(0.0, 1.0, "width and length: small to big"),
  "hair_style": Discrete(
    ("bald", "receding", "crop", "side_part", "centre_part", "curly", "bun"),
    (0.08, 0.08, 0.18, 0.22, 0.18, 0.14, 0.12),
    "cut; the parted ones and the curls have a length",
  ),
  "hair_length": Continuous(
    0.0, 1.0, "parted and curly hair: ears to shoulders"
  ),
  "hair_wave": Continuous(0.0, 1.0, "parted hair: straight to wavy"),
  "hair_colour": Continuous(0.0, 1.0, "black, brown, chestnut, red, blond"),
  "hair_greyness": Continuous(0.0, 1.0, "blend of that color with gray", 3.0),
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
  "hat_hue": Continuous(0.0, 1.0, "hue of the hat, once around the circle"),
  "clothes": Discrete(
    ("crew", "v_neck", "tie", "turtleneck"),
    (0.35, 0.25, 0.15, 0.25),
    "neckline; the tie comes with a shirt and a jacket",
  ),
  "clothes_hue": Continuous(0.0, 1.0, "hue of clothes, once around the circle"),
  "background_hue": Continuous(0.0, 1.0, "hue behind, once around the circle"),
  "background_light": Continuous(0.0, 1.0, "brightness behind: dark to bright"),
  "light": Continuous(-1.0, 1.0, "side the light comes from: left to right"),
}

# Factors with the discrete ones by name, as `named` returns them.
Named = Mapping[str, float | str]

_SPLITS = {"train": 0, "validation": 1, "test": 2}

# Hair styles that can have bangs.
_WITH_BANGS = ("crop", "side_part", "centre_part", "curly", "bun")


def sample_factors(split: str, index: int) -> dict[str, float | int]:
  """Draws the factors of an example: a pure function of its position.

  Args:
    split: "train", "validation" or "test"; each has another random stream.
    index: position in the split, from 0.

  Returns:
    A value for each of `FACTORS`: a float, or the position of a name.

  Raises:
    ValueError: if the split is unknown or the index negative.
  """
  if split not in _SPLITS:
    raise ValueError(f"split is {split!r}; it must be one of {list(_SPLITS)}.")
  if index < 0:
    raise ValueError(f"index is {index}; it must be 0 or more.")
  uniforms = np.random.default_rng((_SPLITS[split], index)).random(len(FACTORS))
  return {
    name: factor.quantile(u)
    for (name, factor), u in zip(FACTORS.items(), uniforms, strict=True)
  }


def named(factors: Mapping[str, float | int]) -> dict[str, float | str]:
  """Replaces the values of discrete factors by their names.

  Args:
    factors: a value for each of `FACTORS`; may be NumPy scalars.

  Raises:
    ValueError: if a factor is missing, unknown or out of its range.
  """
  if set(factors) != set(FACTORS):
    wrong = sorted(set(factors) ^ set(FACTORS))
    raise ValueError(f"factors missing or unknown: {wrong}; see FACTORS.")
  values = {}
  for name, factor in FACTORS.items():
    value = factors[name]
    discrete = isinstance(factor, Discrete)
    if discrete:
      low, high = 0, len(factor.names) - 1
    else:
      low, high = factor.low, factor.high
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

  Args:
    factors: a value for each of `FACTORS`.
  """
  f = named(factors)
  haired = f["hair_style"] != "bald"
  gray = f["hair_greyness"] > 0.5
  hue = f["hair_colour"]
  bare_headed = f["hat"] == "none"
  return {
    "5_o_Clock_Shadow": f["beard"] == "stubble",
    "Arched_Eyebrows": f["brow_arch"] > 0.6,
    "Bald": bare_headed and not haired,
    "Bangs": bare_headed
    and f["bangs"] == "yes"
    and f["hair_style"] in _WITH_BANGS,
    "Big_Lips": f["lip_fullness"] > 0.65,
    "Big_Nose": f["nose_size"] > 0.65,
    "Black_Hair": haired and not gray and hue < 0.25,
    "Blond_Hair": haired and not gray and hue >= 0.8,
    "Brown_Hair": haired and not gray and 0.25 <= hue < 0.6,
    "Bushy_Eyebrows": f["brow_thickness"] > 0.65,
    "Eyeglasses": f["glasses"] != "none",
    "Goatee": f["beard"] == "goatee",
    "Gray_Hair": haired and gray,
    "Mouth_Slightly_Open": f["mouth_open"] > 0.2,
    "Mustache": f["moustache"] == "yes",
    "Narrow_Eyes": f["eye_open"] < 0.25 and f["glasses"] != "sun",
    "No_Beard": f["beard"] == "none",
    "Pale_Skin": f["skin_tone"] < 0.12,
    "Receding_Hairline": bare_headed and f["hair_style"] == "receding",
    "Rosy_Cheeks": f["rosiness"] > 0.5,
    "Smiling": f["smile"] > 0.2,
    "Straight_Hair": has_locks(f) and f["hair_wave"] < 0.35,
    "Wavy_Hair": f["hair_style"] == "curly"
    or (has_locks(f) and f["hair_wave"] > 0.6),
    "Wearing_Hat": not bare_headed,
    "Wearing_Lipstick": f["lipstick"] == "yes",
    "Wearing_Necktie": f["clothes"] == "tie",
  }


# Attributes that are thresholds of one real factor, and whether large values
# (1) or small ones (-1) of the factor give the attribute.
THRESHOLDS = {
  "Arched_Eyebrows": ("brow_arch", 1),
  "Big_Lips": ("lip_fullness", 1),
  "Big_Nose": ("nose_size", 1),
  "Bushy_Eyebrows": ("brow_thickness", 1),
  "Mouth_Slightly_Open": ("mouth_open", 1),
  "Narrow_Eyes": ("eye_open", -1),
  "Pale_Skin": ("skin_tone", -1),
  "Rosy_Cheeks": ("rosiness", 1),
  "Smiling": ("smile", 1),
}

ATTRIBUTES = tuple(
  attributes({name: factor.quantile(0.5) for name, factor in FACTORS.items()})
)
