"""Reads `--latent`: codes as numbers, or as a file of numbers."""

import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from vae_jax.config import ConfigError

_SUFFIXES = (".json", ".npy", ".npz")
_KEYS = ("latent", "codes")  # In a JSON object or an archive, first one wins.


def read(text: str | None, dim: int) -> Float32[np.ndarray, "n {dim}"]:
  """Returns the codes that --latent names.

  Args:
    text: numbers as "0.0,0.03", or the path of a file with [d] or [n d]
      numbers: `.npy`; `.npz` with an array `latent` or `codes`, or with one
      array; `.json` with a list, or with an object that holds one as `latent`.
    dim: numbers in a code of the model.

  Raises:
    ConfigError: the text or file holds no finite numbers, or not `dim` each.
  """
  if text is None:
    raise ConfigError(
      f"--mode=decode needs --latent: {dim} numbers, as "
      f"{','.join(['0'] * min(dim, 3))}{',...' if dim > 3 else ''}, or a "
      f"file ({', '.join(_SUFFIXES)})."
    )
  path = pathlib.Path(text).expanduser()
  flag = f"--latent={text}"
  if path.suffix in _SUFFIXES:
    values = _of_file(path, flag)
  else:
    values = _of_text(text, flag)
  try:
    codes = np.asarray(values).astype(np.float64, casting="same_kind")
  except (TypeError, ValueError):
    raise ConfigError(f"{flag} are not only numbers, {_wanted(dim)}.") from None
  if codes.ndim not in (1, 2) or not codes.size or codes.shape[-1] != dim:
    count = codes.shape[0] if codes.ndim == 1 else f"{list(codes.shape)}"
    raise ConfigError(f"{flag} are {count} numbers; it must be {_wanted(dim)}.")
  with np.errstate(over="ignore"):
    codes = codes.reshape(-1, dim).astype(np.float32)
  if not np.isfinite(codes).all():
    raise ConfigError(f"{flag} are not only finite numbers.")
  return codes


def check_unconditional(config: ConfigDict, mode: str) -> None:
  """Raises a ConfigError if the model needs labels, which codes have not."""
  condition = config.model.condition
  if condition != "none":
    raise ConfigError(
      f"--mode={mode} decodes codes alone; a model with config.model.condition="
      f"{condition} needs a label with each, which only images have; use "
      "--mode=reconstruct, interpolate or traverse."
    )


def _wanted(dim: int) -> str:
  return f"{dim} for each code, as config.model.latent_dim says"


def _of_text(text: str, flag: str) -> list[float]:
  words = [word.strip() for word in text.split(",")]
  try:
    return [float(word) for word in words]
  except ValueError:
    raise ConfigError(
      f"{flag} is neither numbers, as 0.0,0.03, nor the path of a file "
      f"({', '.join(_SUFFIXES)})."
    ) from None


def _of_file(path: pathlib.Path, flag: str) -> Any:
  """Returns the content of a file, read without pickle."""
  try:
    if path.suffix == ".json":
      values = json.loads(path.read_text())
      return _chosen(values, flag) if isinstance(values, dict) else values
    with path.open("rb") as file:
      values = np.load(file, allow_pickle=False)
      if isinstance(values, np.ndarray):
        return values
      return _chosen(values, flag)
  except OSError as error:
    raise ConfigError(
      f"{flag} cannot be read: {error.strerror or 'it is damaged'}."
    ) from error
  except ConfigError:
    raise
  except Exception as error:
    # Damaged files raise errors without a common base, from zlib's to those of
    # Python's own tokenizer.
    raise ConfigError(
      f"{flag} cannot be read: it is no {path.suffix} file of numbers."
    ) from error


def _chosen(values: Any, flag: str) -> Any:
  names = list(values)
  key = next((key for key in _KEYS if key in names), None)
  if key is None and len(names) == 1:
    (key,) = names
  if key is None:
    raise ConfigError(
      f"{flag} holds no {' or '.join(_KEYS)}, but "
      f"{', '.join(names) or 'nothing'}."
    )
  return values[key]
