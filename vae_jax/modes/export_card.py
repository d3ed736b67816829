"""Describes an exported model: preprocessing, shapes, directions, settings."""

import importlib.metadata
import json
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import config as config_lib
from vae_jax.latents import directions, trained_model
from vae_jax.modes import attributes

# Settings that hold paths of this machine.
_PRIVATE = (
  "data.dir",
  "data.manual_dir",
  "data.cache_dir",
  "train.compilation_cache_dir",
)


def card(
  model: trained_model.TrainedModel,
  *,
  platforms: tuple[str, ...],
  label_shape: tuple[int, ...] | None,
) -> dict[str, Any]:
  """Returns the description of the exported files, as JSON values.

  Args:
    model: the exported model.
    platforms: of the programs.
    label_shape: of one image's label; None = the model receives no labels.
  """
  c = model.config
  image = ["b", *model.image_shape]
  code = ["b", c.model.latent_dim]
  inputs: dict[str, Any] = {}
  if label_shape is not None:
    inputs = {"label": _argument("int32", ["b", *label_shape])}
  data = c.data
  return {
    "package": {"vae_jax": _version(), "jax": jax.__version__},
    "use": "from load import encode, decode",
    "needs": (
      f"flatbuffers and jax {jax.__version__} or later; jax promises to read "
      "programs for six months, and safetensors stays readable"
    ),
    "platforms": list(platforms),
    "encoder.bin": {
      "inputs": {"image": _argument("uint8", image), **inputs},
      "output": _argument("float32", code),
      "meaning": "means of the posterior",
    },
    "decoder.bin": {
      "inputs": {"code": _argument("float32", code), **inputs},
      "output": _argument("uint8", image),
      "meaning": "means of the likelihood, round(255 x)",
    },
    "data": data.name,
    "label_names": _label_names(model),
    "preprocessing": {
      "order": ["crop", "grayscale", "resize", "binarization"],
      "crop": data.crop,
      "crop_means": "side of a centered square, pixels; 0 = none",
      "grayscale": data.grayscale,
      "grayscale_means": "one channel, luma of ITU-R BT.601",
      "resize": data.resize,
      "resize_means": "side, each pixel the mean over its area; 0 = none",
      "binarization": data.binarization,
      "binarization_means": (
        "none, or each pixel becomes 255 with probability pixel / 255, else 0"
      ),
      "image_shape": list(model.image_shape),
      "pixels": "0 to 255; the encoder divides by 255 itself",
    },
    "latent_dim": c.model.latent_dim,
    "posterior": c.model.posterior.to_dict(),
    "prior": c.model.prior.to_dict(),
    "likelihood": c.model.likelihood.to_dict(),
    "condition": c.model.condition,
    "step": model.step,
    "averaged_weights": c.optim.ema_decay > 0,
    "directions": _directions(model),
    "config": _public(c),
  }


def _argument(dtype: str, shape: list[str | int]) -> dict[str, Any]:
  return {"dtype": dtype, "shape": shape}


def _version() -> str | None:
  try:
    return importlib.metadata.version("vae_jax")
  except importlib.metadata.PackageNotFoundError:
    return None  # A checkout that was never installed.


def _label_names(model: trained_model.TrainedModel) -> list[str] | None:
  if model.config.model.condition == "none":
    return None
  names = model.experiment.splits.label_names
  return None if names is None else list(names)


def _directions(model: trained_model.TrainedModel) -> dict[str, Any] | None:
  """Returns the directions by attribute and kind, with their unit."""
  config = model.config
  if config.model.condition != "none" or not config.data.num_labels:
    return None
  linear, _ = attributes.directions_of(model)
  vectors = {
    name: {
      kind: _numbers(linear.vectors[k, a])
      for k, kind in enumerate(directions.KINDS)
    }
    for a, name in enumerate(linear.names)
  }
  return {
    "use": "decode(encode(image) + strength * vector), strength as -3 to 3",
    "unit": (
      "1 is the mean distance, along the vector, between codes with and "
      "without the attribute"
    ),
    "split": linear.split,
    "step": linear.step,
    "vectors": vectors,
  }


def _numbers(vector: np.ndarray) -> list[float] | None:
  if not np.isfinite(vector).all():
    return None
  # Nine digits identify a float32.
  return [float(f"{v:.9g}") for v in vector]


def _public(config: ConfigDict) -> dict[str, Any]:
  copy = config_lib.from_json(config_lib.to_json(config))
  for path in _PRIVATE:
    config_lib.update(copy, path, "")
  copy.eval.features.args = ConfigDict()  # Among them a file's name.
  return json.loads(config_lib.to_json(copy))
