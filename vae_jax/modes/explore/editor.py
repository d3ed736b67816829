"""Operations of the page on a trained model: values in, values out.

All visitors share one immutable `Editor`; each of them edits a `Point` of
latent space, which is replaced, never altered.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from vae_jax.config import ConfigError
from vae_jax.data import datasets
from vae_jax.evaluate import diagnostics
from vae_jax.latents import (
  attribute_directions,
  conditions,
  directions,
  nonlinear_directions,
  trained_model,
)
from vae_jax.latents import density as density_lib
from vae_jax.modes import arguments
from vae_jax.modes.explore import maps, vector_file
from vae_jax.modes.explore import ranges as ranges_lib

_MAX_STRENGTH = 10.0  # Of a direction or an offset.

_Label = Integer[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
  """A point of latent space, where the sliders start.

  Attributes:
    name: Text for the visitor.
    code: Latent vector, [d].
    picture: The decoded code.
    original: The picture that was encoded; None for other points.
    label: Label for a conditional model; None for other models.
    seed: Seed of a random point; None for other points.
  """

  name: str
  code: Float32[np.ndarray, " d"]
  picture: UInt8[np.ndarray, "h w c"]
  original: UInt8[np.ndarray, "h w c"] | None = None
  label: _Label | None = None
  seed: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Editor:
  """A trained model with everything that the page shows of it.

  Attributes:
    model: The model, which decodes one code at a time.
    source: The test split.
    names: Attributes that have a direction.
    vectors: A direction of each kind for each of them, [kinds a d].
    nonlinear: Nonlinear directions of them; None where there are none.
    ranking: Dimensions by the information they carry.
    scale: Standard deviation of each dimension: of the prior if it is N(0, I),
      else of the codes.
    standard_prior: Whether the prior is N(0, I).
    map: The plane to click on.
    density: Name of the density that random points are drawn from.
    ranges: How far sliders of attributes go; None = to `ranges.STRENGTH`.
  """

  model: trained_model.TrainedModel
  source: datasets.Source
  names: tuple[str, ...]
  vectors: Float32[np.ndarray, "kinds a d"]
  nonlinear: nonlinear_directions.NonlinearDirections | None
  ranking: diagnostics.Ranking
  scale: Float32[np.ndarray, " d"]
  standard_prior: bool
  map: maps.Plane | maps.Cloud
  density: str = density_lib.PRIOR
  ranges: ranges_lib.Ranges | None = None

  @property
  def noun(self) -> str:
    """A word for the pictures of the data set."""
    name = self.model.config.data.name
    return "face" if "face" in name or "celeb" in name else "picture"

  def decode(
    self, code: Float32[np.ndarray, " d"], label: _Label | None = None
  ) -> UInt8[np.ndarray, "h w c"]:
    """Returns the picture of a code."""
    labels = None if label is None else label[None]
    return self.model.decode(code[None], labels)[0]

  def edit(
    self,
    point: Point,
    kind: str,
    strengths: Mapping[str, float | int],
    offsets: Mapping[int, float | int],
  ) -> Float32[np.ndarray, " d"]:
    """Returns z + sum_a s_a v_a + sum_i o_i u_i e_i for the code z of a point.

    For nonlinear directions, the end of the path from z replaces the first two
    terms.

    Args:
      point: Where to start.
      kind: Of the directions v, one of `attribute_edits.KINDS`.
      strengths: s by name of the attribute; missing ones are 0.
      offsets: o by dimension i, in units of `scale` u.
    """
    code = point.code.copy()
    # Bounded, because a request need not come from a slider.
    strengths = {k: _bounded(v) for k, v in strengths.items()}
    offsets = {k: _bounded(v) for k, v in offsets.items()}
    if kind == nonlinear_directions.KIND and self.nonlinear is not None:
      # All attributes, moved or not, because each number of them is compiled.
      weights = {name: strengths.get(name, 0) for name in self.names}
      code = self.nonlinear.walk(code[None], weights, np.ones(1))[0, 0].copy()
    elif self.names:
      vectors = self.vectors[directions.KINDS.index(kind)]
      for name, strength in strengths.items():
        code += np.float32(strength) * vectors[self.names.index(name)]
    for i, offset in offsets.items():
      code[i] += np.float32(offset) * self.scale[i]
    return code

  def pick(self, index: int) -> Point:
    """Returns the encoded picture of an index of the test split.

    Raises:
      ConfigError: There is no such picture.
    """
    if not 0 <= index < len(self.source):
      raise ConfigError(
        f"There is no test picture {index}; they are numbered 0 to "
        f"{len(self.source) - 1}."
      )
    position = np.array([index], np.int32)
    data = self.source.fetch(position)
    image = self.model.as_input(data["image"], position)
    conditional = self.model.config.model.condition != "none"
    label = np.asarray(data["label"][0]) if conditional else None
    return self._encoded(f"test picture {index}", image, label)

  def photo(self, content: bytes, label: _Label | None = None) -> Point:
    """Returns the encoded picture of an uploaded file, which has no label of
    its own.

    Raises:
      ConfigError: It is no picture, or too large, or a conditional model lacks
        a label.
    """
    selection = arguments.photo(self.model, content, "Your file")
    return self._encoded("your photo", selection.image, label)

  @property
  def conditions(self) -> tuple[str, ...]:
    """The classes or attributes that a conditional model reads."""
    if not conditions.is_conditional(self.model.config):
      return ()
    return conditions.names(self.model.experiment)

  def words(self, label: _Label | None) -> str | list[str] | None:
    """Returns a label in words: the class, or the attributes that are 1."""
    if label is None:
      return None
    if label.ndim == 0:
      return self.conditions[int(label)]
    return [n for n, on in zip(self.conditions, label, strict=True) if on]

  def relabel(self, point: Point, words: str | list[str]) -> Point:
    """Returns the point, decoded with another label.

    Args:
      point: Where the code is from.
      words: See `words`.

    Raises:
      ConfigError: There is no such class or attribute.
    """
    if self.model.config.model.condition == "attributes":
      words = dict.fromkeys(words or (), 1)
    label = np.asarray(conditions.chosen(self.model.experiment, words))
    picture = self.decode(point.code, label)
    return dataclasses.replace(point, label=label, picture=picture)

  def _encoded(
    self, name: str, image: UInt8[np.ndarray, "1 h w c"], label: _Label | None
  ) -> Point:
    labels = None if label is None else label[None]
    (code,) = self.model.encode(image, label=labels)
    return Point(name, code, self.decode(code, label), image[0], label)

  def random(
    self, seed: int, temperature: float | int, label: _Label | None = None
  ) -> Point:
    """Returns the draw from the density of a seed.

    Args:
      seed: Of the draw.
      temperature: Factor on its standard deviation.
      label: For a conditional model.
    """
    temperature = min(abs(_bounded(temperature)), _MAX_STRENGTH)
    (code,) = density_lib.applied(self.model, self.density).drawn_codes(
      np.zeros(1, np.int32),
      None if label is None else label[None],
      temperature=temperature,
      seed=seed,
    )
    name = f"random {self.noun} {seed}"
    return Point(name, code, self.decode(code, label), None, label, seed)

  def mix(self, a: Point, b: Point, t: float | int) -> Point:
    """Returns (1 - t) a + t b of the codes, with the label of a."""
    t = float(np.clip(np.nan_to_num(t), 0, 1))
    code = np.float32(1 - t) * a.code + np.float32(t) * b.code
    picture = self.decode(code, a.label)
    return Point(f"{1 - t:.0%} A + {t:.0%} B", code, picture, None, a.label)

  def at(self, x: float | int, y: float | int, label: _Label | None) -> Point:
    """Returns the point of a place on the map.

    Args:
      x: 0 at the left edge, 1 at the right one.
      y: 0 at the top, 1 at the bottom.
      label: For a conditional model.

    Raises:
      ConfigError: The place is not on the map.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
      raise ConfigError("This place is not on the map.")
    if isinstance(self.map, maps.Cloud):
      return self.pick(self.map.nearest(x, y))
    code = self.map.code(x, y)
    name = f"z = ({code[0]:z.2f}, {code[1]:z.2f})"
    return Point(name, code, self.decode(code, label), None, label)

  def load(self, content: bytes, label: _Label | None = None) -> Point:
    """Returns the point of a vector file, with `label` if it has none.

    Raises:
      ConfigError: The file holds no code of this model.
    """
    code, own_label = vector_file.read(self.model.config, content)
    label = label if own_label is None else own_label
    return Point("your vector", code, self.decode(code, label), None, label)


def _bounded(value: float | int) -> float:
  return float(np.clip(np.nan_to_num(value), -_MAX_STRENGTH, _MAX_STRENGTH))


def open_editor(
  model: trained_model.TrainedModel,
  *,
  ranked: int = 2000,
  density: str = density_lib.PRIOR,
) -> Editor:
  """Returns the editor of a model, with its functions compiled.

  Args:
    model: Decodes one code at a time: its chunk is 1.
    ranked: Images of the test split that the latents are measured on.
    density: That random points are drawn from; fitted if it is not there.
  """
  config = model.config
  source = model.experiment.source("test")
  names, vectors, nonlinear = _directions(model)
  first = datasets.First(source, ranked)
  ranking = diagnostics.rank(model, first)
  codes = ranking.codes
  standard_prior = (
    config.model.prior.name == "standard_normal" and ranking.measure == "KL"
  )
  spread = codes.std(axis=0, dtype=np.float64).astype(np.float32)
  scale = np.ones_like(spread) if standard_prior else spread
  if config.model.latent_dim == 2 and config.model.condition == "none":
    plane = maps.plane(model, codes, standard_prior)
  else:
    labels = first.fetch(np.arange(len(first))).get("label")
    label_names = model.experiment.splits.label_names
    plane = maps.cloud(codes, labels, label_names, names[0] if names else None)
  editor = Editor(
    model,
    source,
    names,
    vectors,
    nonlinear,
    ranking,
    scale,
    standard_prior,
    plane,
    density,
    ranges_lib.of_model(model, names),
  )
  start = editor.pick(0)
  editor.random(0, 1.0, start.label)
  editor.edit(start, nonlinear_directions.KIND, {}, {})
  return editor


def _directions(
  model: trained_model.TrainedModel,
) -> tuple[
  tuple[str, ...],
  Float32[np.ndarray, "kinds a d"],
  nonlinear_directions.NonlinearDirections | None,
]:
  """Returns names of attributes, their directions and nonlinear directions.

  Smiling comes first if there is one, then the attributes that the probe
  predicts best.
  """
  length = model.config.model.latent_dim
  try:
    linear, nonlinear = attribute_directions.directions_of(model)
  except ConfigError:
    # Without labels, or with labels as inputs, the page has the latents alone.
    return (), np.zeros((len(directions.KINDS), 0, length), np.float32), None
  finite = np.isfinite(linear.vectors).all(axis=(0, 2))
  order = np.flatnonzero(finite).tolist()
  if "Smiling" in linear.names:
    accuracy = linear.accuracy
    order.sort(key=lambda a: (linear.names[a] != "Smiling", -accuracy[a]))
  names = tuple(linear.names[a] for a in order)
  return names, linear.vectors[:, order], nonlinear
