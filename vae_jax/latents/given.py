"""Checks images and codes that a caller in Python gives."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from vae_jax.config import ConfigError, reason
from vae_jax.data import datasets

Shape = tuple[int, int, int]


class InMemory:
  """Images and their labels as a split; see `datasets.Source`."""

  def __init__(
    self, image: UInt8[np.ndarray, "n h w c"], label: np.ndarray | None
  ):
    self._arrays = {"image": image}
    if label is not None:
      self._arrays["label"] = label
    self.image_shape = image.shape[1:]
    self.label_shape = None if label is None else label.shape[1:]
    self.fingerprint = {}  # Nothing is cached.

  def __len__(self) -> int:
    return len(self._arrays["image"])

  def fetch(self, indices: datasets.Indices) -> datasets.Examples:
    """Reads examples; see `Source.fetch`."""
    return {name: values[indices] for name, values in self._arrays.items()}


def images(given: Any, shape: Shape) -> tuple[UInt8[np.ndarray, "n ..."], bool]:
  """Returns images as uint8 [n h w c], and whether one was given, not many.

  Args:
    given: [h w c] or [n h w c], without c too where it is 1: uint8, or real
      numbers x in [0, 1], which become round(255 x), ties to even.
    shape: (h, w, c) of the model's images.

  Raises:
    ConfigError: shape, type or a value is another.
  """
  array = _array("images", given)
  kind = f"The images are {array.dtype} {list(array.shape)}"
  wanted = f"[{', '.join(map(str, shape))}]"
  single = array.shape in (shape, shape[: 2 if shape[2] == 1 else 3])
  if single:
    array = array[None]
  if array.ndim == 3 and shape[2] == 1:
    array = array[..., None]
  if array.ndim != 4 or array.shape[1:] != shape:
    h, w, c = shape
    hint = ""
    if array.shape[-3:] == (c, h, w):
      axes = "1, 2, 0" if array.ndim == 3 else "0, 2, 3, 1"
      hint = (
        f"; channels are first here, and must be last: images.transpose({axes})"
      )
    raise ConfigError(
      f"{kind}; the model reads {wanted}, or [n, {wanted[1:]} of several{hint}."
    )
  if array.dtype == np.uint8:
    return array, single
  if array.dtype.kind != "f":
    raise ConfigError(
      f"{kind}; they must be uint8 from 0 to 255, or real numbers from 0 to 1."
    )
  # Comparisons with nan are False.
  wrong = np.argwhere(~((array >= 0) & (array <= 1)))
  if len(wrong):
    at = tuple(map(int, wrong[0]))
    hint = ""
    if array.min() >= 0 and 1 < array.max() <= 255:
      hint = " (for levels from 0 to 255: images.astype(np.uint8))"
    raise ConfigError(
      f"The images are {array.dtype} with a value {array[at]:g}; real numbers "
      f"must be from 0 to 1{hint}."
    )
  return np.round(255 * array.astype(np.float32)).astype(np.uint8), single


def pair(
  a: Any, b: Any, shape: Shape
) -> tuple[UInt8[np.ndarray, "n ..."], UInt8[np.ndarray, "n ..."], bool]:
  """Returns two arguments of as many images each; see `images`.

  Raises:
    ConfigError: see `images`; or they are not as many.
  """
  (first, one), (last, other) = images(a, shape), images(b, shape)
  if (one, len(first)) != (other, len(last)):
    many = [
      "one image" if single else f"{len(image)} images"
      for image, single in ((first, one), (last, other))
    ]
    raise ConfigError(f"a is {many[0]} and b {many[1]}; they must be alike.")
  return first, last, one


def codes(given: Any, dim: int) -> tuple[Float32[np.ndarray, "n d"], bool]:
  """Returns codes as float32 [n dim], and whether one was given, not many.

  Raises:
    ConfigError: they are no finite real numbers [dim] or [n dim].
  """
  array = _array("codes", given)
  single = array.ndim == 1
  if (
    array.dtype.kind not in "fiu"
    or array.shape[-1:] != (dim,)
    or (array.ndim not in (1, 2))
  ):
    raise ConfigError(
      f"The codes are {array.dtype} {list(array.shape)}; they must be real "
      f"numbers [{dim}] or [n, {dim}], as config.model.latent_dim says."
    )
  with np.errstate(over="ignore"):
    array = array.astype(np.float32)
  if not np.isfinite(array).all():
    raise ConfigError("The codes hold nan or infinity; they must be finite.")
  return (array[None] if single else array), single


def _array(what: str, given: Any) -> np.ndarray:
  """Returns an array of NumPy, JAX or nested lists."""
  try:
    array = np.asarray(given)
  except (TypeError, ValueError) as error:
    raise ConfigError(
      f"The {what} are no array of numbers: {reason(error)}."
    ) from error
  # NumPy does not know bfloat16 as a real number.
  if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.floating):
    return array.astype(np.float32)
  return array


def temperature(value: Any) -> float | int:
  """Returns a temperature, or raises a ConfigError."""
  real = isinstance(value, float | int | np.floating | np.integer)
  if isinstance(value, bool) or not (real and 0 <= value < np.inf):
    raise ConfigError(
      f"temperature is {value!r}; it must be a finite number of at least 0."
    )
  return value


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
  """Returns one of the allowed words, or raises a ConfigError."""
  if not isinstance(value, str) or value not in allowed:
    raise ConfigError(
      f"{name} is {value!r}; it must be one of {', '.join(allowed)}."
    )
  return value


def count(name: str, value: Any, least: int = 0) -> int:
  """Returns an integer of at least `least`, or raises a ConfigError."""
  whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not whole or value < least:
    raise ConfigError(
      f"{name} is {value!r}; it must be a whole number of at least {least}."
    )
  return int(value)


def seed(value: Any) -> int:
  """Returns a seed, a whole number below 2**32, or raises a ConfigError."""
  if count("seed", value) >= 2**32:
    raise ConfigError(f"seed is {value}; it must be below 2**32.")
  return int(value)
