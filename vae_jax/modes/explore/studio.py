"""What a visitor of the page can do with a model: values in, values out.

A `Studio` is shared by all visitors and never changes; what one of them has
before them is a `Face`, which is replaced, never altered.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, Integer, UInt8

from vae_jax import models
from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.latents import directions, nonlinear_directions, trained_model
from vae_jax.modes import attributes, image_argument
from vae_jax.modes.explore import maps, survey

_MAX_VECTOR = 1 << 20  # Bytes of a file with a vector.
_REACH = 10.0  # Strength or offset at most.
_MAX_VALUE = 1e4  # Largest number in a vector; further out nothing decodes.


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
  """What the sliders start from.

  Attributes:
    name: what it is, for the person.
    code: its latent vector, [d].
    picture: the code, decoded.
    original: the picture that was encoded; None where there was none.
    label: given to a conditional model; None to others.
    seed: of a random one; None of others.
  """

  name: str
  code: Float32[np.ndarray, " d"]
  picture: UInt8[np.ndarray, "h w c"]
  original: UInt8[np.ndarray, "h w c"] | None = None
  label: Integer[np.ndarray, "..."] | None = None
  seed: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Studio:
  """A trained model with all that the page shows of it.

  Attributes:
    model: it decodes one code at a time.
    source: the test split.
    names: of the attributes that have a direction.
    vectors: a direction of each kind for each of them, [kinds a d].
    bent: curves of the same attributes; None where there are none.
    latents: what its dimensions carry.
    map: the plane that one can click on.
  """

  model: trained_model.TrainedModel
  source: datasets.Source
  names: tuple[str, ...]
  vectors: Float32[np.ndarray, "kinds a d"]
  bent: nonlinear_directions.NonlinearDirections | None
  latents: survey.Survey
  map: maps.Plane | maps.Cloud

  @property
  def noun(self) -> str:
    """What the pictures show, in a word."""
    name = self.model.config.data.name
    return "face" if "face" in name or "celeb" in name else "picture"

  def decode(
    self,
    code: Float32[np.ndarray, " d"],
    label: Integer[np.ndarray, "..."] | None = None,
  ) -> UInt8[np.ndarray, "h w c"]:
    """Returns the picture of a code."""
    given = None if label is None else label[None]
    return self.model.decode(code[None], given)[0]

  def edit(
    self,
    face: Face,
    kind: str,
    strengths: Mapping[str, float | int],
    offsets: Mapping[int, float | int],
  ) -> Float32[np.ndarray, " d"]:
    """Returns z + sum_a s_a v_a + sum_i o_i u_i e_i; along curves, the first
    two terms are where z is led to.

    Args:
      face: where z is from.
      kind: of the directions v, one of `edits.KINDS`.
      strengths: s by name of the attribute; those left out are 0.
      offsets: o by dimension i, in standard deviations u of the prior.
    """
    code = face.code.copy()
    # A request that no slider made: no further than one could lead.
    strengths = {k: _bounded(v) for k, v in strengths.items()}
    offsets = {k: _bounded(v) for k, v in offsets.items()}
    if kind == nonlinear_directions.KIND and self.bent is not None:
      # All attributes, moved or not: one number of them is compiled for.
      weights = {name: strengths.get(name, 0) for name in self.names}
      code = self.bent.walk(code[None], weights, np.ones(1))[0, 0].copy()
    elif self.names:
      vectors = self.vectors[directions.KINDS.index(kind)]
      for name, strength in strengths.items():
        code += np.float32(strength) * vectors[self.names.index(name)]
    for i, offset in offsets.items():
      code[i] += np.float32(offset) * self.latents.unit[i]
    return code

  def pick(self, index: int) -> Face:
    """Returns a picture of the test split, encoded.

    Raises:
      ConfigError: there is no such picture.
    """
    if not 0 <= index < len(self.source):
      raise ConfigError(
        f"There is no test picture {index}; they are numbered 0 to "
        f"{len(self.source) - 1}."
      )
    position = np.array([index], np.int32)
    data = self.source.fetch(position)
    label = None
    if self.model.config.model.condition != "none":
      label = np.asarray(data["label"][0])
    image = self.model.as_input(data["image"], position)
    return self._encoded(f"test picture {index}", image, label)

  def photo(self, content: bytes) -> Face:
    """Returns a person's own picture, encoded.

    Args:
      content: of its file.

    Raises:
      ConfigError: it is no picture, or too large, or the model is conditional.
    """
    found = image_argument.photo(self.model, content, "Your file")
    return self._encoded("your photo", found.image, None)

  def _encoded(
    self, name: str, image: np.ndarray, label: np.ndarray | None
  ) -> Face:
    given = None if label is None else label[None]
    (code,) = self.model.encode(image, given)
    return Face(name, code, self.decode(code, label), image[0], label)

  def random(
    self, seed: int, temperature: float | int, like: Face | None = None
  ) -> Face:
    """Returns a draw from the prior: the same for the same seed.

    Args:
      seed: of the draw.
      temperature: factor on the prior's standard deviation.
      like: whose label a conditional model is given.
    """
    label = like.label if like is not None else None
    temperature = min(abs(_bounded(temperature)), _REACH)
    drawn = _draw(self.model.vae, self.model.variables, seed, temperature)
    code = np.asarray(drawn, np.float32)
    name = f"random {self.noun} {seed}"
    return Face(name, code, self.decode(code, label), None, label, seed)

  def mix(self, a: Face, b: Face, t: float | int) -> Face:
    """Returns (1 - t) a + t b, of the codes; the label is that of a."""
    t = float(np.clip(np.nan_to_num(t), 0, 1))
    code = np.float32(1 - t) * a.code + np.float32(t) * b.code
    picture = self.decode(code, a.label)
    return Face(f"{t:.0%} of the way from A to B", code, picture, None, a.label)

  def at(self, x: float | int, y: float | int, like: Face) -> Face:
    """Returns what lies at a point of the map.

    Args:
      x: 0 at the left edge, 1 at the right one.
      y: 0 at the top, 1 at the bottom.
      like: whose label a conditional model is given.

    Raises:
      ConfigError: the point is not on the map.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
      raise ConfigError("That point is not on the map.")
    if isinstance(self.map, maps.Cloud):
      return self.pick(self.map.nearest(x, y))
    code = self.map.code(x, y)
    picture = self.decode(code, like.label)
    name = f"point ({code[0]:z.2f}, {code[1]:z.2f})"
    return Face(name, code, picture, None, like.label)

  def card(
    self, code: Float32[np.ndarray, " d"], label: np.ndarray | None
  ) -> str:
    """Returns a code as JSON, from which `load` makes the same one."""
    values = {"latent": code.tolist(), "step": self.model.step}
    if label is not None:
      values["label"] = label.tolist()
    return json.dumps(values, indent=2, allow_nan=False) + "\n"

  def load(self, content: bytes, like: Face | None = None) -> Face:
    """Returns the code that `card` wrote.

    Args:
      content: of the file.
      like: whose label a conditional model is given if the file has none.

    Raises:
      ConfigError: it holds no code of this model.
    """
    if len(content) > _MAX_VECTOR:
      raise ConfigError("A file with a vector has at most 1 MiB.")
    try:
      values = json.loads(content)
    except (ValueError, RecursionError) as error:
      raise ConfigError(
        'That is no JSON file; a vector is saved as {"latent": [...]}.'
      ) from error
    if not isinstance(values, dict) or "latent" not in values:
      raise ConfigError('The file has no "latent": [...].')
    code = self.checked_code(values["latent"])
    label = like.label if like is not None else None
    if self.model.config.model.condition != "none" and "label" in values:
      label = self.checked_label(values["label"])
    return Face("your vector", code, self.decode(code, label), None, label)

  def checked_code(self, values: Any) -> Float32[np.ndarray, " d"]:
    """Returns numbers from outside as a code.

    Raises:
      ConfigError: they are none, too many, too few, too large or not finite.
    """
    length = self.model.config.model.latent_dim
    if not isinstance(values, list) or len(values) != length:
      found = f"{len(values)}" if isinstance(values, list) else "no list"
      raise ConfigError(
        f"A vector of this model has {length} numbers; that has {found}."
      )
    for i, value in enumerate(values):
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"Entry {i} of the vector is no number.")
      # False for what is not a number, too.
      if not -_MAX_VALUE <= value <= _MAX_VALUE:
        raise ConfigError(
          f"Entry {i} of the vector is {str(value):.12}; allowed is "
          f"-{_MAX_VALUE:g} to {_MAX_VALUE:g}."
        )
    return np.array(values, np.float32)

  def checked_label(self, values: Any) -> Integer[np.ndarray, "..."]:
    """Returns a label from outside.

    Raises:
      ConfigError: a conditional model is not given such a label.
    """
    config = self.model.config
    count = config.data.num_labels
    scalar = config.model.condition == "label"
    shape = () if scalar else (count,)
    highest = count - 1 if scalar else 1
    entries = [values] if scalar else values
    right = (
      isinstance(entries, list)
      and all(type(v) is int and 0 <= v <= highest for v in entries)
      and (scalar or len(entries) == count)
    )
    if not right:
      raise ConfigError(
        f"The label must be a whole number from 0 to {highest}."
        if scalar
        else f"The label must be {count} numbers, each 0 or 1."
      )
    return np.array(values, np.int32).reshape(shape)


def _bounded(value: float | int) -> float:
  return float(np.clip(np.nan_to_num(value), -_REACH, _REACH))


@functools.partial(jax.jit, static_argnums=0)
def _draw(
  vae: models.Vae, variables: Any, seed: Any, temperature: Any
) -> Float[Array, " d"]:
  """Draw 0 of those that `latents.sample` decodes with this seed."""
  key = jax.random.fold_in(jax.random.key(seed), 0)

  def run(vae: models.Vae) -> jax.Array:
    (code,) = vae.prior().sample(key[None], temperature=temperature)
    return code[0]

  return jnp.asarray(nn.apply(run, vae)(variables))


def open_studio(model: trained_model.TrainedModel) -> Studio:
  """Returns the studio of a model, with what the page will call compiled.

  Args:
    model: with a chunk of 1, since a slider asks for one picture at a time.
  """
  config = model.config
  source = model.experiment.source("test")
  names, vectors, bent = _ways(model)
  found = survey.survey(model, source)
  flat = config.model.latent_dim == 2 and config.model.condition == "none"
  plane = maps.plane(model, found) if flat else maps.cloud(found, names)
  studio = Studio(model, source, names, vectors, bent, found, plane)
  first = studio.pick(0)
  studio.random(0, 1.0, first)
  studio.edit(first, nonlinear_directions.KIND, {}, {})
  return studio


def _ways(
  model: trained_model.TrainedModel,
) -> tuple[
  tuple[str, ...], np.ndarray, nonlinear_directions.NonlinearDirections | None
]:
  """The attributes that have directions, those one looks for first, these,
  and curves."""
  length = model.config.model.latent_dim
  try:
    found, bent = attributes.directions_of(model)
  except ConfigError:
    # No labels, or given to the model: a page with the latents alone.
    return (), np.zeros((len(directions.KINDS), 0, length), np.float32), None
  there = np.isfinite(found.vectors).all(axis=(0, 2))
  order = [a for a in range(len(found.names)) if there[a]]
  if any(name == "Smiling" for name in found.names):
    # After the smile, what the codes tell best.
    order.sort(key=lambda a: (found.names[a] != "Smiling", -found.accuracy[a]))
  return tuple(found.names[a] for a in order), found.vectors[:, order], bent
