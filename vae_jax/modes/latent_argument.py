"""Codes as a person gives them: numbers, or a file of numbers."""

import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32

from vae_jax.config import ConfigError

_SUFFIXES = (".json", ".npy", ".npz")
_KEYS = ("latent", "codes")  # Of a JSON object or an archive, whichever is in.


def read(text: str | None, dim: int) -> Float32[np.ndarray, "n {dim}"]:
  """Returns the codes that --latent gives.

  Args:
    text: numbers as "0.0,0.03", or the path of a file: `.npy`; `.npz`, of
      which the array `latent`, `codes` or the only one is read; or `.json`, a
      list or an object with one as `latent`. A file holds [d] or [n d] numbers.
    dim: numbers in a code of the model.

  Raises:
    ConfigError: these are no numbers, or not so many.
  """
  if text is None:
    raise ConfigError(
      f"--mode=decode needs --latent: {dim} numbers, as "
      f"{','.join(['0'] * min(dim, 3))}{',...' if dim > 3 else ''}, or a "
      f"file ({', '.join(_SUFFIXES)})."
    )
  path = pathlib.Path(text).expanduser()
  given = f"--latent={text}"
  if path.suffix in _SUFFIXES:
    values = _of_file(path, given)
  else:
    values = _of_text(text, given)
  try:
    codes = np.asarray(values).astype(np.float64, casting="same_kind")
  except (TypeError, ValueError):
    raise ConfigError(
      f"{given} are not only numbers, {_wanted(dim)}."
    ) from None
  if codes.ndim not in (1, 2) or not codes.size or codes.shape[-1] != dim:
    count = codes.shape[0] if codes.ndim == 1 else f"{list(codes.shape)}"
    raise ConfigError(
      f"{given} are {count} numbers; it must be {_wanted(dim)}."
    )
  with np.errstate(over="ignore"):
    codes = codes.reshape(-1, dim).astype(np.float32)
  if not np.isfinite(codes).all():
    raise ConfigError(f"{given} are not only finite numbers.")
  return codes


def _wanted(dim: int) -> str:
  return f"{dim} for each code, as config.model.latent_dim says"


def _of_text(text: str, given: str) -> list[float]:
  words = [word.strip() for word in text.split(",")]
  try:
    return [float(word) for word in words]
  except ValueError:
    raise ConfigError(
      f"{given} is neither numbers, as 0.0,0.03, nor the path of a file "
      f"({', '.join(_SUFFIXES)})."
    ) from None


def _of_file(path: pathlib.Path, given: str) -> Any:
  """Returns what a file holds; nothing that it says is run."""
  try:
    if path.suffix == ".json":
      values = json.loads(path.read_text())
      return _chosen(values, given) if isinstance(values, dict) else values
    with path.open("rb") as file:
      values = np.load(file, allow_pickle=False)
      if isinstance(values, np.ndarray):
        return values
      return _chosen(values, given)
  except OSError as error:
    raise ConfigError(
      f"{given} cannot be read: {error.strerror or 'it is damaged'}."
    ) from error
  except ConfigError:
    raise
  except Exception as error:
    # Of damage NumPy says whatever its parsers stumble over, from zlib's
    # errors to those of Python's own tokenizer.
    raise ConfigError(
      f"{given} cannot be read: it is no {path.suffix} file of numbers."
    ) from error


def _chosen(values: Any, given: str) -> Any:
  names = list(values)
  key = next((key for key in _KEYS if key in names), None)
  if key is None and len(names) == 1:
    (key,) = names
  if key is None:
    raise ConfigError(
      f"{given} holds no {' or '.join(_KEYS)}, but {', '.join(names) or 'nothing'}."
    )
  return values[key]
